"""Tasks: the port between the operations and where tasks run and are kept.

`local_tasks` keeps them in this process, `durable_tasks` in PostgreSQL, where every replica has all of them.
"""

from collections.abc import AsyncGenerator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Protocol

from opentelemetry.context import Context

from lakemesh.a2a.errors import InvalidParams
from lakemesh.a2a.task_state import Update
from lakemesh.schemas import AgentInput, Asked, Identity

MAX_PUSH_CONFIGS = 10
"""Of one task."""

PushConfig = Mapping[str, Any]
"""A push notification configuration in the protocol's JSON, `legacy` beside it for those of protocol 0.3."""


@dataclass(frozen=True, slots=True, kw_only=True)
class NewTask:
    """What a task is begun with. `key` is of the message: the same message sent again is the same task. `message` is
    what was sent, in the protocol's JSON."""

    request: AgentInput[Any]
    identity: Identity
    context_id: str
    message: Mapping[str, Any]
    key: str
    modes: Sequence[str] = ()
    parent: Context | None = None


class Task(Protocol):
    """One task of one owner. It runs to its end whether or not somebody listens."""

    @property
    def id(self) -> str: ...

    @property
    def owner(self) -> str: ...

    @property
    def context_id(self) -> str: ...

    @property
    def state(self) -> str: ...

    @property
    def ended(self) -> bool: ...

    @property
    def skill(self) -> str: ...

    @property
    def questions(self) -> Mapping[str, Asked]:
        """What waits for the owner's answer, by its id."""
        ...

    def view(self) -> dict[str, Any]:
        """The task in the protocol's JSON, as it is now."""
        ...

    def json(self) -> bytes:
        """The same, as bytes."""
        ...

    async def begun(self) -> None:
        """Until the engine has taken it on. Raises what the engine refused it with."""
        ...

    async def wait(self) -> None:
        """Until it has ended, or asks its owner something. Raises what the engine refused it with."""
        ...

    def listen(self, *, until_asked: bool = False) -> AsyncGenerator[Update]:
        """The task as it is now, then every update until its end, or `until_asked` something."""
        ...

    async def cancel(self) -> None:
        """Returns when its agent has let go."""
        ...

    async def answer(self, question: Asked, value: Any, message: Mapping[str, Any], identity: Identity) -> None:
        """Give the owner's answer, None to decline, which came with `message`. Raises `NotFound` for a question that is
        not open any longer, and `ValidationFailed`."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class TaskQuery:
    """Which tasks of an owner, newest first. Empty and None mean any; `page_token` is what the page before gave."""

    size: int
    context_id: str = ""
    state: str = ""
    changed_after: datetime | None = None
    page_token: str = ""
    artifacts: bool = False

    def before(self) -> int | None:
        """The number of the last task of the page before. Raises `InvalidParams` for a token never given."""
        if not self.page_token:
            return None
        if not self.page_token.isascii() or not self.page_token.isdecimal() or len(self.page_token) > 18:
            raise InvalidParams("pageToken is not one that this server gave.")
        return int(self.page_token)


@dataclass(frozen=True, slots=True, kw_only=True)
class TaskPage:
    """Views of tasks."""

    tasks: list[dict[str, Any]] = field(default_factory=list)
    next_page_token: str = ""
    total: int = 0


class Tasks(Protocol):
    """All tasks. What is another's does not exist: `find` raises `TaskNotFound`."""

    async def begin(self, new: NewTask) -> Task:
        """The task of this message: one that the same message began before, or a new one. What the engine refuses
        (limits, policy) is raised, at the latest by `Task.begun` and `Task.wait`, and is no task."""
        ...

    async def find(self, task_id: str, owner: str) -> Task: ...

    async def page(self, owner: str, query: TaskQuery) -> TaskPage: ...

    async def resume(self, task: Task, new: NewTask) -> Task:
        """Run a task that ended for want of authorization once more, with the rights of who asks now."""
        ...

    async def push_configs(self, task: Task) -> Sequence[PushConfig]: ...

    async def add_push(self, task: Task, config: PushConfig) -> None:
        """Notify `config` of the task from now on; one with an id that exists is replaced. Raises `InvalidParams` over
        `MAX_PUSH_CONFIGS`."""
        ...

    async def remove_push(self, task: Task, config_id: str) -> None: ...

    async def close(self) -> None: ...


def joined(before: Sequence[PushConfig], config: PushConfig) -> list[PushConfig]:
    """One with an id that exists replaces it. Raises `InvalidParams` over `MAX_PUSH_CONFIGS`."""
    others = [other for other in before if other["id"] != config["id"]]
    if len(others) >= MAX_PUSH_CONFIGS:
        raise InvalidParams(f"A task has at most {MAX_PUSH_CONFIGS} push notification configurations.")
    return [*others, config]
