"""The events of a response, in the order in which OpenAI's clients accept them.

    response.created, response.in_progress
    for each message: output_item.added, content_part.added, output_text.delta*, output_text.done, content_part.done,
        output_item.done
    for each tool: output_item.added, function_call_arguments.delta, function_call_arguments.done, output_item.done;
        and, when it has answered, output_item.added and output_item.done of a function_call_output
    response.completed, or response.failed

The same events of the engine always give the same events here, numbers and ids included: who comes back is given the
rest of a stream by making all of it again.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from pydantic_core import to_json

Status = Literal["queued", "in_progress", "completed", "failed", "cancelled"]
Emitted = dict[str, Any]

TEXT_MEMBERS = ("text", "answer", "message", "reply", "response", "output_text", "content", "summary")
"""Where an agent's result has its text, the first that is there."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ResponseHead:
    """What a response says of its request; `created_at` is in seconds since 1970. `ignored` names what was sent and has
    no effect here."""

    id: str
    model: str
    created_at: float
    background: bool = False
    previous_response_id: str | None = None
    conversation: str | None = None
    metadata: Mapping[str, str] = field(default_factory=dict)
    ignored: tuple[str, ...] = ()


class ResponseEvents:
    """The state of one response, fed with the events of an execution."""

    def __init__(self, head: ResponseHead, *, status: Status = "in_progress") -> None:
        self._head = head
        self._status: Status = status
        self._sequence = 0
        self._begun = False
        self._places = 0
        self._output: list[dict[str, Any]] = []
        self._message: dict[str, Any] | None = None
        self._metadata: Mapping[str, Any] = {}
        self._error: Mapping[str, Any] | None = None
        self._result: Any = None

    @property
    def problem(self) -> Mapping[str, Any] | None:
        """The designed error that ended the execution."""
        return self._error

    def begin(self) -> Iterator[Emitted]:
        """The two events before everything else; once."""
        if not self._begun:
            self._begun = True
            yield self._event("response.created", response=self.response())
            yield self._event("response.in_progress", response=self.response())

    def feed(self, kind: str, data: Mapping[str, Any]) -> Iterator[Emitted]:
        """What one event of the engine becomes; those that the shape has no place for become nothing."""
        if kind not in HANDLED:
            return
        yield from self.begin()
        match kind:
            case "started":
                self._metadata = data
            case "text_delta":
                yield from self._write(data["text"])
            case "tool_called":
                yield from self._call(data)
            case "tool_returned":
                yield from self._returned(data)
            case "interrupted":
                yield from self._close("incomplete")
                self._output.clear()  # what the next attempt says stands in its place
            case "completed":
                yield from self._complete(data)
            case "failed":
                yield from self._fail(data)

    def response(self) -> dict[str, Any]:
        """The response object as it stands."""
        head = self._head
        error = self._error
        return {
            "id": head.id,
            "object": "response",
            "created_at": int(head.created_at),
            "status": self._status,
            "background": head.background,
            "error": None if error is None else {"code": error.get("code"), "message": error.get("detail", "")},
            "incomplete_details": None,
            "instructions": None,
            "model": head.model,
            "output": list(self._output),
            "parallel_tool_calls": True,
            "previous_response_id": head.previous_response_id,
            "conversation": None if head.conversation is None else {"id": head.conversation},
            "temperature": None,
            "tool_choice": "auto",
            "tools": [],
            "top_p": None,
            "usage": usage_of(self._metadata) if self._status == "completed" else None,
            "metadata": self._shown_metadata(),
            "custom_outputs": self._result,
        }

    def _shown_metadata(self) -> dict[str, str]:
        """Of strings alone, as the shape has it."""
        shown = dict(self._head.metadata)
        for name in ("execution_id", "trace_id"):
            if value := self._metadata.get(name):
                shown[name] = str(value)
        if degraded := self._metadata.get("degraded"):
            shown["degraded"] = "; ".join(degraded)
        if self._head.ignored:
            shown["ignored"] = ", ".join(self._head.ignored)
        return shown

    def _event(self, kind: str, **members: Any) -> Emitted:
        event = {"type": kind, "sequence_number": self._sequence, **members}
        self._sequence += 1
        return event

    def _place(self) -> int:
        self._places += 1
        return self._places - 1

    def _id(self, kind: str, place: int) -> str:
        return f"{kind}_{self._head.id.removeprefix('resp_')[:32]}_{place}"

    def _open(self) -> Iterator[Emitted]:
        place = self._place()
        item = {"type": "message", "id": self._id("msg", place), "role": "assistant"}
        self._message = {**item, "place": place, "text": ""}
        added = {**item, "status": "in_progress", "content": []}
        yield self._event("response.output_item.added", output_index=place, item=added)
        yield self._event("response.content_part.added", **self._part(), part=text_part(""))

    def _part(self) -> dict[str, Any]:
        assert self._message is not None
        return {"item_id": self._message["id"], "output_index": self._message["place"], "content_index": 0}

    def _write(self, text: str) -> Iterator[Emitted]:
        if not text:
            return
        if self._message is None:
            yield from self._open()
        assert self._message is not None
        self._message["text"] += text
        yield self._event("response.output_text.delta", **self._part(), delta=text, logprobs=[])

    def _close(self, status: str = "completed") -> Iterator[Emitted]:
        if self._message is None:
            return
        part, text, place = self._part(), self._message["text"], self._message["place"]
        yield self._event("response.output_text.done", **part, text=text, logprobs=[])
        yield self._event("response.content_part.done", **part, part=text_part(text))
        item = {"type": "message", "id": self._message["id"], "role": "assistant", "status": status}
        yield self._done(place, {**item, "content": [text_part(text)]})
        self._message = None

    def _done(self, place: int, item: dict[str, Any]) -> Emitted:
        self._output.append(item)
        return self._event("response.output_item.done", output_index=place, item=item)

    def _call(self, data: Mapping[str, Any]) -> Iterator[Emitted]:
        yield from self._close()
        place = self._place()
        arguments = to_json(data["arguments"]).decode()
        item = {
            "type": "function_call",
            "id": self._id("fc", place),
            "call_id": data["call_id"],
            "name": data["name"],
        }
        at = {"item_id": item["id"], "output_index": place}
        yield self._event(
            "response.output_item.added", output_index=place, item={**item, "status": "in_progress", "arguments": ""}
        )
        yield self._event("response.function_call_arguments.delta", **at, delta=arguments)
        yield self._event("response.function_call_arguments.done", **at, name=data["name"], arguments=arguments)
        yield self._done(place, {**item, "status": "completed", "arguments": arguments})

    def _returned(self, data: Mapping[str, Any]) -> Iterator[Emitted]:
        """That the tool answered, and how; what it answered is for the agent. With it the call counts as done, so that
        no client takes it for one of its own to make."""
        yield from self._close()
        place = self._place()
        item = {
            "type": "function_call_output",
            "id": self._id("fco", place),
            "call_id": data["call_id"],
            "output": "failed" if data.get("is_error") else "completed",
        }
        yield self._event(
            "response.output_item.added", output_index=place, item={**item, "status": "in_progress", "output": ""}
        )
        yield self._done(place, {**item, "status": "completed"})

    def _complete(self, data: Mapping[str, Any]) -> Iterator[Emitted]:
        self._metadata = data.get("metadata") or {}
        self._result = structured(data.get("result"))
        yield from self._finish_text(data.get("result"))
        yield from self._close()
        self._status = "completed"
        yield self._event("response.completed", response=self.response())

    def _finish_text(self, result: Any) -> Iterator[Emitted]:
        """What of the answer was not streamed. A result without a text of its own is a text as JSON, unless the agent
        wrote another."""
        text = text_in(result)
        written = self._written()
        if text is None:
            if not written:
                yield from self._write(to_json(result, inf_nan_mode="null").decode())
        elif self._message is not None and text.startswith(self._message["text"]):
            yield from self._write(text[len(self._message["text"]) :])
        elif squeezed(text) not in map(squeezed, written):
            yield from self._close()
            yield from self._write(text)
        if not self._written():
            yield from self._open()

    def _written(self) -> list[str]:
        texts = [item["content"][0]["text"] for item in self._output if item["type"] == "message"]
        return texts if self._message is None else [*texts, self._message["text"]]

    def _fail(self, data: Mapping[str, Any]) -> Iterator[Emitted]:
        yield from self._close("incomplete")
        self._error = data
        self._status = "cancelled" if data.get("code") == "cancelled" else "failed"
        yield self._event("response.failed", response=self.response())


HANDLED = frozenset({"started", "text_delta", "tool_called", "tool_returned", "interrupted", "completed", "failed"})


def text_part(text: str) -> dict[str, Any]:
    return {"type": "output_text", "text": text, "annotations": [], "logprobs": []}


def text_in(result: Any) -> str | None:
    """An agent's result as a text for a person, when it has one."""
    if isinstance(result, str):
        return result
    if not isinstance(result, Mapping):
        return None
    return next((result[name] for name in TEXT_MEMBERS if isinstance(result.get(name), str)), None)


def squeezed(text: str) -> str:
    """Streamed words may be set apart otherwise than in the answer, which is the same text all the same."""
    return "".join(text.split())


def structured(result: Any) -> Mapping[str, Any] | None:
    """A result that says more than its text."""
    return result if isinstance(result, Mapping) and (len(result) > 1 or text_in(result) is None) else None


def usage_of(metadata: Mapping[str, Any]) -> dict[str, Any]:
    given, made = int(metadata.get("input_tokens", 0)), int(metadata.get("output_tokens", 0))
    return {
        "input_tokens": given,
        "input_tokens_details": {"cached_tokens": 0, "cache_write_tokens": 0},
        "output_tokens": made,
        "output_tokens_details": {"reasoning_tokens": 0},
        "total_tokens": given + made,
    }
