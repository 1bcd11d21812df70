"""Agents and their answers in MCP's words."""

from base64 import b64encode
from collections.abc import Mapping, Sequence
from typing import Any
from urllib.parse import quote

from pydantic_core import to_json, to_jsonable_python

from lakemesh.config.agents import ToolHints
from lakemesh.engine.registry import AgentDescription
from lakemesh.mcp.provider import Described
from lakemesh.schemas import AgentOutput, ArtifactPart

ARTIFACTS = "lakemesh://artifacts/"
ENVELOPE = ("execution_id", "trace_id", "degraded")
HINTS = {"read_only": "readOnlyHint", "destructive": "destructiveHint", "idempotent": "idempotentHint"}
HINTS["open_world"] = "openWorldHint"


def tool_of(description: AgentDescription, hints: ToolHints) -> dict[str, Any]:
    tool: Described = {
        "name": description.name,
        "title": hints.title or description.name.replace("__", ": ").replace("_", " ").replace("-", " ").capitalize(),
        "description": description.description,
        "inputSchema": {"type": "object", **description.input_schema},
    }
    annotations = {HINTS[name]: value for name, value in hints if name in HINTS and value is not None}
    if annotations:
        tool["annotations"] = annotations
    if hints.icon is not None:
        tool["icons"] = [{"src": hints.icon}]
    if description.output_schema.get("type") == "object" and "properties" in description.output_schema:
        tool["outputSchema"] = dict(description.output_schema)
    return tool


def success(output: AgentOutput[Any], made: Sequence[Described]) -> dict[str, Any]:
    """The result as structure, and as text for clients that know no structure; then what else the agent made."""
    result = output.result
    structured = to_jsonable_python(result, inf_nan_mode="null")
    text = result if isinstance(result, str) else to_json(result, inf_nan_mode="null").decode()
    meta = {name: output.metadata[name] for name in ENVELOPE if name in output.metadata}
    content: list[Described] = [{"type": "text", "text": text}, *made]
    answer: dict[str, Any] = {
        "content": content,
        "isError": False,
        "_meta": {**meta, "confidence": output.confidence},
    }
    return {**answer, "structuredContent": structured} if isinstance(structured, dict) else answer


def failure(problem: Mapping[str, Any]) -> dict[str, Any]:
    faults: Sequence[Mapping[str, Any]] = problem.get("errors") or ()
    lines = [str(problem.get("detail", "")), *(f"{fault.get('path')}: {fault.get('message')}" for fault in faults)]
    meta = {name: problem[name] for name in ("code", "execution_id", "trace_id") if name in problem}
    return {"content": [{"type": "text", "text": "\n".join(lines)}], "isError": True, "_meta": meta}


def content_of(part: ArtifactPart) -> Described:
    """A piece that an agent made, as a content block."""
    name = part.filename or part.name or part.artifact_id
    if part.url is not None:
        link = {"type": "resource_link", "uri": part.url, "name": name}
        return {**link, "mimeType": part.media_type} if part.media_type else link
    if part.content is None:
        text = part.text if part.text is not None else to_json(part.data, inf_nan_mode="null").decode()
        return {"type": "text", "text": text}
    blob, media_type = b64encode(part.content).decode(), part.media_type or "application/octet-stream"
    if media_type.startswith(("image/", "audio/")):
        return {"type": media_type.partition("/")[0], "data": blob, "mimeType": media_type}
    uri = f"{ARTIFACTS}{quote(part.artifact_id, safe='')}/{quote(name, safe='')}"
    return {"type": "resource", "resource": {"uri": uri, "mimeType": media_type, "blob": blob}}
