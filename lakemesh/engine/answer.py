"""An agent's answer, as the engine takes it and as it goes out."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import structlog
from pydantic_core import to_json

from lakemesh.engine.registry import RegisteredAgent
from lakemesh.errors import AgentFailed
from lakemesh.schemas import AgentOutput
from lakemesh.scope import ExecutionScope

logger = structlog.get_logger(__name__)


def checked_answer(answer: Any, registered: RegisteredAgent) -> AgentOutput[Any]:
    """The answer with a validated result. Raises `AgentFailed` for what is no answer, saying what to return."""
    name = registered.description.name
    if not isinstance(answer, AgentOutput):
        kind = "nothing" if answer is None else f"a {type(answer).__name__}"
        logger.error("agent answer invalid", agent=name, returned=type(answer).__name__)
        raise AgentFailed(f"{name!r} returned {kind}; return AgentOutput(agent_name=..., result=...).")
    confidence = answer.confidence
    if confidence is not None and not (isinstance(confidence, int | float) and 0 <= confidence <= 1):
        logger.error("agent answer invalid", agent=name, confidence=repr(confidence)[:100])
        raise AgentFailed(f"{name!r} gave a confidence that is no number from 0 to 1.")
    if not isinstance(answer.metadata, Mapping):
        raise AgentFailed(f"{name!r} gave metadata that are no mapping.")
    result = registered.validate_output(answer.result)
    return answer if result is answer.result else replace(answer, result=result)


def metadata_of(answer: AgentOutput[Any], scope: ExecutionScope, *, trace_id: str, latency_ms: float) -> dict[str, Any]:
    """What the agent says of its answer, and what the engine knows of the run and of those it called."""
    metadata: dict[str, Any] = {
        **answer.metadata,
        "execution_id": scope.execution_id,
        "trace_id": trace_id,
        "latency_ms": round(latency_ms, 3),
    }
    if uses := scope.model_uses:
        metadata["models"] = sorted({use.model for use in uses})
        metadata["input_tokens"] = sum(use.input_tokens for use in uses)
        metadata["output_tokens"] = sum(use.output_tokens for use in uses)
        if cost := sum(use.cost_usd for use in uses):
            metadata["cost_usd"] = round(cost, 9)
        if cached := sum(use.cached for use in uses):
            metadata["cached_answers"] = cached
    if scope.prompt_uses:
        metadata["prompts"] = sorted({f"{use.name}_v{use.version}" for use in scope.prompt_uses})
    if scope.findings:
        metadata["findings"] = list(scope.findings)
    if scope.warnings:
        metadata["budgets"] = list(scope.warnings.values())
    if scope.degraded:
        metadata["degraded"] = list(scope.degraded)
    return metadata


def serialised(output: Mapping[str, Any], max_bytes: int) -> bytes:
    """The whole answer as JSON. Raises `AgentFailed` when JSON cannot say it, or it is too long."""
    name = output["agent_name"]
    try:
        body = to_json(output, inf_nan_mode="null")
    except Exception as error:  # serialisers of an author's models may raise anything
        logger.exception("agent answer is not JSON", agent=name)
        raise AgentFailed(f"{name!r} gave an answer that JSON cannot express.") from error
    if len(body) > max_bytes:
        logger.error("agent answer too long", agent=name, bytes=len(body))
        raise AgentFailed(f"{name!r} gave an answer of {len(body)} bytes; the limit is {max_bytes}.")
    return body
