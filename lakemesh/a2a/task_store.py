"""Where tasks are kept: a port, and its build in memory."""

import time
from collections import OrderedDict
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Protocol

from a2a.types.a2a_pb2 import Task, TaskState
from a2a.utils.errors import InvalidParamsError, TaskNotFoundError

from lakemesh.errors import Overloaded

ENDED = frozenset(
    {
        TaskState.TASK_STATE_COMPLETED,
        TaskState.TASK_STATE_FAILED,
        TaskState.TASK_STATE_CANCELED,
        TaskState.TASK_STATE_REJECTED,
    }
)


@dataclass(frozen=True, slots=True, kw_only=True)
class TaskQuery:
    """Which tasks of an owner, newest first. Empty and zero mean any; `changed_after_ns` is Unix nanoseconds;
    `page_token` is what the page before gave."""

    size: int
    context_id: str = ""
    state: int = 0
    changed_after_ns: int = 0
    page_token: str = ""

    def before(self) -> int | None:
        """The number of the last task of the page before. Raises `InvalidParamsError` for a token never given."""
        if not self.page_token:
            return None
        if not self.page_token.isascii() or not self.page_token.isdecimal() or len(self.page_token) > 18:
            raise InvalidParamsError("page_token is not one that this server gave.")
        return int(self.page_token)


@dataclass(frozen=True, slots=True, kw_only=True)
class TaskPage:
    tasks: list[Task]
    next_page_token: str
    total: int


class TaskStore(Protocol):
    """Tasks by owner. A task that is saved again replaces what was there and keeps its place."""

    async def save(self, task: Task, owner: str, *, runs_seconds: float) -> None:
        """Keep `task`, which runs for `runs_seconds` more at most. Raises `Overloaded` when there is no room."""
        ...

    async def load(self, task_id: str, owner: str) -> Task:
        """Raises `TaskNotFoundError`, also for the tasks of others."""
        ...

    async def page(self, owner: str, query: TaskQuery) -> TaskPage: ...

    async def close(self) -> None: ...


@dataclass(frozen=True, slots=True)
class Kept:
    number: int
    task: Task
    owner: str
    saved_at: float


class MemoryTaskStore:
    """The tasks of this process, bounded in number, the ended ones also in age. It keeps the very objects it is given,
    so that a running task is read as it is now."""

    def __init__(self, *, max_tasks: int, ttl_seconds: float) -> None:
        self._max_tasks = max_tasks
        self._ttl_seconds = ttl_seconds
        self._kept: OrderedDict[str, Kept] = OrderedDict()
        self._of_owner: dict[str, dict[str, Kept]] = {}
        self._saved = 0

    async def save(self, task: Task, owner: str, *, runs_seconds: float) -> None:
        before = self._kept.pop(task.id, None)
        if before is None:
            self._make_room()
            self._saved += 1
        kept = Kept(before.number if before else self._saved, task, owner, time.monotonic())
        self._kept[task.id] = kept
        self._of_owner.setdefault(owner, {})[task.id] = kept

    async def load(self, task_id: str, owner: str) -> Task:
        self._forget_old()
        kept = self._kept.get(task_id)
        if kept is None or kept.owner != owner:
            raise TaskNotFoundError(f"There is no task {task_id!r:.80} of yours.")
        return kept.task

    async def page(self, owner: str, query: TaskQuery) -> TaskPage:
        self._forget_old()
        found = [kept for kept in reversed(self._of_owner.get(owner, {}).values()) if is_wanted(kept.task, query)]
        before = query.before()
        rest = [kept for kept in found if before is None or kept.number < before]
        page = rest[: query.size]
        token = str(page[-1].number) if len(rest) > len(page) else ""
        return TaskPage(tasks=[kept.task for kept in page], next_page_token=token, total=len(found))

    async def close(self) -> None:
        """Memory needs no closing."""

    def _make_room(self) -> None:
        self._forget_old()
        if len(self._kept) < self._max_tasks:
            return
        ended = next(self._ended(), None)
        if ended is None:
            raise Overloaded("All places for tasks are taken by running ones.", retry_after_seconds=1.0)
        self._forget(ended)

    def _forget_old(self) -> None:
        """Looks at the longest unchanged only, so it costs nothing; a long task delays the end of others at most."""
        limit = time.monotonic() - self._ttl_seconds
        while self._kept:
            oldest = next(iter(self._kept.values()))
            if oldest.saved_at > limit or oldest.task.status.state not in ENDED:
                return
            self._forget(oldest)

    def _ended(self) -> Iterator[Kept]:
        return (kept for kept in self._kept.values() if kept.task.status.state in ENDED)

    def _forget(self, kept: Kept) -> None:
        del self._kept[kept.task.id]
        owned = self._of_owner[kept.owner]
        del owned[kept.task.id]
        if not owned:
            del self._of_owner[kept.owner]


def is_wanted(task: Task, query: TaskQuery) -> bool:
    return (
        (not query.context_id or task.context_id == query.context_id)
        and (not query.state or task.status.state == query.state)
        and (not query.changed_after_ns or task.status.timestamp.ToNanoseconds() >= query.changed_after_ns)
    )
