"""What a peer answers, gathered from its updates."""

from collections.abc import Iterator
from typing import Any

from a2a.types.a2a_pb2 import Artifact, Message, StreamResponse, TaskState, TaskStatus
from google.protobuf.json_format import MessageToDict

from lakemesh.a2a.parts import whole_numbers
from lakemesh.errors import AgentFailed
from lakemesh.schemas import Event, Progress, TextDelta

MAX_TEXT = 1_000_000
FAULTS = {
    TaskState.TASK_STATE_FAILED: "failed",
    TaskState.TASK_STATE_CANCELED: "was cancelled there",
    TaskState.TASK_STATE_REJECTED: "was rejected",
    TaskState.TASK_STATE_INPUT_REQUIRED: "asks for more input",
    TaskState.TASK_STATE_AUTH_REQUIRED: "asks for authorization",
}


class Reply:
    """The state of one task as its updates tell it. `take` gives the events that an update means to us."""

    def __init__(self, agent_name: str) -> None:
        self._agent_name = agent_name
        self._artifacts: dict[str, list[Any]] = {}
        self._status: TaskStatus | None = None
        self._steps = 0
        self._size = 0

    def take(self, update: StreamResponse) -> Iterator[Event]:
        kind = update.WhichOneof("payload")
        if kind == "task":
            self._status = update.task.status
            for artifact in update.task.artifacts:
                yield from self._add(artifact, append=False)
        elif kind == "status_update":
            self._status = update.status_update.status
            if self._status.state == TaskState.TASK_STATE_WORKING:
                self._steps += 1
                yield Progress(progress=self._steps, message=text_of(self._status.message) or None)
        elif kind == "artifact_update":
            yield from self._add(update.artifact_update.artifact, append=update.artifact_update.append)
        elif kind == "message":
            yield from self._add(Artifact(artifact_id="message", parts=update.message.parts), append=False)

    def result(self) -> Any:
        """The data of the last artifact with data; else all its text. Raises `AgentFailed` for a task that did not
        complete."""
        if self._status is not None and self._status.state != TaskState.TASK_STATE_COMPLETED:
            fault = FAULTS.get(self._status.state, "ended before its answer was there")
            said = text_of(self._status.message)
            raise AgentFailed(f"{self._agent_name!r} {fault}{': ' + said if said else '.'}")
        for parts in reversed(self._artifacts.values()):
            data = [part for part in parts if not isinstance(part, str)]
            if data:
                return data[0] if len(data) == 1 else data
        *_, last = [[], *self._artifacts.values()]
        return "".join(last)

    def _add(self, artifact: Artifact, *, append: bool) -> Iterator[Event]:
        parts = self._artifacts.setdefault(artifact.artifact_id, [])
        if not append:
            parts.clear()
        for part in artifact.parts:
            if part.HasField("text"):
                self._size += len(part.text)
                if self._size > MAX_TEXT:
                    raise AgentFailed(f"{self._agent_name!r} answered more than {MAX_TEXT} characters.")
                parts.append(part.text)
                yield TextDelta(text=part.text)
            elif part.HasField("data"):
                parts.append(whole_numbers(MessageToDict(part.data)))


def text_of(message: Message) -> str:
    return " ".join(part.text for part in message.parts if part.text)
