"""What goes into an agent and comes out of it, put to the policies' rules about content."""

from dataclasses import replace
from typing import Any

from pydantic_core import to_jsonable_python

from lakemesh.agents.base import EventSink
from lakemesh.engine.registry import RegisteredAgent
from lakemesh.governance.guard import ScopeGuard
from lakemesh.schemas import AgentOutput, ArtifactPart, Event, TextDelta


def screened_input(guard: ScopeGuard | None, data: Any) -> Any:
    """`data` as the agent may have it. Raises `ContentRefused`."""
    if guard is None or not guard.screens("in"):
        return data
    plain = jsonable(data)
    found = guard.screened("in", plain)
    return data if found is plain else found


def screened_answer(
    guard: ScopeGuard | None, answer: AgentOutput[Any], registered: RegisteredAgent
) -> AgentOutput[Any]:
    """The answer as it may go out. Raises `ContentRefused`, and `AgentFailed` when what is left is no result."""
    if guard is None or not guard.screens("out"):
        return answer
    plain = jsonable(answer.result)
    found = guard.screened("out", plain)
    return answer if found is plain else replace(answer, result=registered.validate_output(found))


def screened_events(guard: ScopeGuard | None, emit: EventSink) -> EventSink:
    """Pieces of text cannot be judged one by one: where a rule masks or blocks what an agent gives out, its text goes
    out with the answer alone."""
    if guard is None or all(screen.rule.action == "tell" for screen in guard.screens("out")):
        return emit

    def emit_without_text(event: Event) -> None:
        if not isinstance(event, TextDelta | ArtifactPart):
            emit(event)

    return emit_without_text


def jsonable(value: Any) -> Any:
    return to_jsonable_python(value, fallback=str, inf_nan_mode="null")
