"""Committed events as the engine's own, for doors that make something of them."""

from base64 import b64decode
from collections.abc import Callable, Mapping
from typing import Any

from pydantic_core import from_json

from lakemesh.invocations.schemas import InvocationEvent
from lakemesh.schemas import (
    AgentOutput,
    ArtifactPart,
    Asked,
    Completed,
    Event,
    Failed,
    Progress,
    Started,
    TextDelta,
)

READ: Mapping[str, Callable[[dict[str, Any]], Event]] = {
    Started.type: lambda members: Started(**members),
    Progress.type: lambda members: Progress(**members),
    TextDelta.type: lambda members: TextDelta(**members),
    ArtifactPart.type: lambda members: ArtifactPart(**{**members, "content": content_of(members.get("content"))}),
    Asked.type: lambda members: Asked(**members),
    Completed.type: lambda members: Completed(output=AgentOutput(**members)),
    Failed.type: lambda members: Failed(error=members),
}


def read_event(event: InvocationEvent) -> Event | None:
    """None for what tells nothing of the agent: that a run was interrupted, answered or resumed, and its steps."""
    read = READ.get(event.type)
    return None if read is None else read(from_json(event.data))


def content_of(base64: str | None) -> bytes | None:
    return None if base64 is None else b64decode(base64)
