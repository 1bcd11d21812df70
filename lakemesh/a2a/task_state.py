"""What a task is, made of the events of its execution, in the protocol's JSON."""

import time
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from functools import lru_cache
from typing import Any

from lakemesh.a2a.artifacts import Artifacts
from lakemesh.a2a.wire import ENDED
from lakemesh.errors import Cancelled, Unauthenticated
from lakemesh.schemas import ArtifactPart, Asked, Completed, Event, Failed, Progress, Started, TextDelta

REFUSALS = frozenset({"permission_denied", "invalid_request", "not_found", "unknown_agent", "conflict"})
"""Errors by which an agent says that it will not do what it was asked."""
ENVELOPE = ("execution_id", "trace_id", "degraded", "latency_ms", "models", "input_tokens", "output_tokens", "prompts")
JSON_TYPE = {"mediaType": "application/json"}

Update = dict[str, Any]


class Json(bytes):
    """What is JSON already."""


class TaskState:
    """One task, as far as its events tell it. `tell`, while it is set, is told every update. `at` is when an event
    happened, in the protocol's words; without it that is now."""

    def __init__(
        self,
        *,
        task_id: str,
        context_id: str,
        history: Sequence[Mapping[str, Any]],
        skill: str,
        modes: Sequence[str],
        at: str = "",
    ) -> None:
        self.id = task_id
        self.context_id = context_id
        self.questions: dict[str, Asked] = {}
        self.metadata: dict[str, Any] = {"skill": skill}
        self.tell: Callable[[Update], None] | None = None
        self._history: list[Mapping[str, Any]] = list(history)
        self._modes = modes
        self._artifacts = Artifacts(modes)
        self._messages = 0
        self._at = at
        self._status: dict[str, Any] = {"state": "TASK_STATE_WORKING", "timestamp": at or now()}

    @property
    def state(self) -> str:
        state: str = self._status["state"]
        return state

    @property
    def changed_at(self) -> str:
        """When the status was this one first, as RFC 3339 has it."""
        timestamp: str = self._status["timestamp"]
        return timestamp

    @property
    def ended(self) -> bool:
        return self.state in ENDED or self.state == "TASK_STATE_AUTH_REQUIRED"

    @property
    def at_rest(self) -> bool:
        """Whether it has ended, or waits for its owner."""
        return bool(self.questions) or self.ended

    @property
    def skill(self) -> str:
        skill: str = self.metadata["skill"]
        return skill

    def view(self) -> dict[str, Any]:
        """The task as it is now; what changes later does not change the view."""
        task: dict[str, Any] = {"id": self.id, "contextId": self.context_id, "status": self._status}
        if artifacts := self._artifacts.view():
            task["artifacts"] = artifacts
        task["history"] = list(self._history)
        task["metadata"] = dict(self.metadata)
        return task

    def take(self, event: Event, at: str = "") -> None:
        self._at = at
        if isinstance(event, Completed):
            self._complete(event)
        elif isinstance(event, Started):
            self._start(event)
        elif isinstance(event, TextDelta):
            self._tell_artifact(self._artifacts.add_text(event.text))
        elif isinstance(event, ArtifactPart):
            self._tell_artifact(self._artifacts.add(event))
        elif isinstance(event, Progress):
            progress = {"progress": event.progress, "total": event.total}
            self._set_status("TASK_STATE_WORKING", event.message, metadata=progress)
        elif isinstance(event, Asked):
            self.questions[event.question_id] = event
            self._ask(event)
        elif isinstance(event, Failed):
            self._fail(event.error)

    def note_answer(self, question_id: str, message: Mapping[str, Any], at: str = "") -> None:
        """The owner's message that answers a question: the task goes on, or asks what else is open."""
        self._at = at
        self._history.append(message)
        self.questions.pop(question_id, None)
        if self.questions:
            self._ask(next(iter(self.questions.values())))
        else:
            self._set_status("TASK_STATE_WORKING")

    def note_message(self, message: Mapping[str, Any], at: str = "") -> None:
        """The owner's message upon which a task that had ended for want of authorization runs once more."""
        self._at = at
        self._history.append(message)
        self._set_status("TASK_STATE_WORKING")

    def _start(self, event: Started) -> None:
        """Of another attempt too: what the one before made is made anew, and its questions are asked again."""
        self._artifacts = Artifacts(self._modes)
        self.metadata = {
            "execution_id": event.execution_id,
            "trace_id": event.trace_id,
            "skill": self.metadata["skill"],
        }

    def _ask(self, question: Asked) -> None:
        asked = {"data": {"question_id": question.question_id, "schema": question.schema}, **JSON_TYPE}
        self._set_status("TASK_STATE_INPUT_REQUIRED", question.message, asked, keep=True)

    def _complete(self, event: Completed) -> None:
        output = event.output
        self.questions.clear()
        for update in self._artifacts.finish(output.result):
            self._tell_artifact(update)
        self.metadata |= {name: output.metadata[name] for name in ENVELOPE if name in output.metadata}
        self.metadata["confidence"] = output.confidence
        self._set_status("TASK_STATE_COMPLETED", metadata=self.metadata)

    def _fail(self, error: Mapping[str, Any]) -> None:
        code = error.get("code")
        self.questions.clear()
        facts = {name: error[name] for name in ("code", "errors", "execution_id", "trace_id") if name in error}
        self.metadata |= facts
        for update in self._artifacts.close():
            self._tell_artifact(update)
        described = {"data": facts, **JSON_TYPE}
        self._set_status(state_of(code), str(error.get("detail", "")), described, keep=True, metadata=self.metadata)

    def _set_status(
        self,
        state: str,
        text: str | None = None,
        *parts: Mapping[str, Any],
        keep: bool = False,
        metadata: Mapping[str, Any] | None = None,
    ) -> None:
        """`keep` its message in the history too, whose last message is then what the agent said last."""
        status: dict[str, Any] = {"state": state, "timestamp": self._at or now()}
        self._status = status
        if text:
            self._messages += 1
            message = {
                "messageId": f"{self.id}-{self._messages}",
                "contextId": self.context_id,
                "taskId": self.id,
                "role": "ROLE_AGENT",
                "parts": [{"text": text}, *parts],
            }
            status["message"] = message
            if keep:
                self._history.append(message)
        if self.tell is not None:
            update = {"taskId": self.id, "contextId": self.context_id, "status": status}
            self.tell({"statusUpdate": {**update, "metadata": dict(metadata)} if metadata else update})

    def _tell_artifact(self, update: Mapping[str, Any]) -> None:
        if self.tell is not None:
            self.tell({"artifactUpdate": {"taskId": self.id, "contextId": self.context_id, **update}})


def answer_of(task: Mapping[str, Any]) -> dict[str, Any]:
    """The answer of a task as a message, for agents that answer in messages."""
    parts = [part for artifact in task.get("artifacts", ()) for part in artifact["parts"]]
    message = {"messageId": task["id"], "contextId": task["contextId"], "role": "ROLE_AGENT", "parts": parts}
    return {**message, "metadata": task["metadata"]}


def state_of(code: Any) -> str:
    """The state that a task ends in by an error."""
    if code == Cancelled.code:
        return "TASK_STATE_CANCELED"
    if code == Unauthenticated.code:
        return "TASK_STATE_AUTH_REQUIRED"
    return "TASK_STATE_REJECTED" if code in REFUSALS else "TASK_STATE_FAILED"


def now() -> str:
    """The same as `said` of this moment, at a tenth of the cost."""
    milliseconds = time.time_ns() // 1_000_000
    return f"{second_said(milliseconds // 1_000)}.{milliseconds % 1_000:03}Z"


@lru_cache(maxsize=1)
def second_said(second: int) -> str:
    return datetime.fromtimestamp(second, UTC).isoformat()[:19]


def said(moment: datetime) -> str:
    """A moment in UTC, in the protocol's words."""
    return moment.isoformat(timespec="milliseconds")[:23] + "Z"


def moment_of(timestamp: str) -> datetime:
    """The moment that an RFC 3339 timestamp says. Raises `ValueError`."""
    moment = datetime.fromisoformat(timestamp)
    if moment.tzinfo is None:
        raise ValueError("the timestamp has no time zone")
    return moment
