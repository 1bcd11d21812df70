"""Where tasks are kept: a port, and its build in memory."""

import time
from collections import OrderedDict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any, Protocol

from pydantic_core import from_json, to_json

from lakemesh.a2a.errors import InvalidParams, TaskNotFound
from lakemesh.a2a.wire import ENDED
from lakemesh.errors import Overloaded

Task = dict[str, Any]
"""A task in the protocol's JSON."""
PushConfigs = Sequence[Mapping[str, Any]]
"""Push notification configurations in the protocol's JSON, `legacy` beside them for those of protocol 0.3."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TaskQuery:
    """Which tasks of an owner, newest first. Empty and zero mean any; `changed_after_ns` is Unix nanoseconds;
    `page_token` is what the page before gave."""

    size: int
    context_id: str = ""
    state: str = ""
    changed_after_ns: int = 0
    page_token: str = ""

    def before(self) -> int | None:
        """The number of the last task of the page before. Raises `InvalidParams` for a token never given."""
        if not self.page_token:
            return None
        if not self.page_token.isascii() or not self.page_token.isdecimal() or len(self.page_token) > 18:
            raise InvalidParams("pageToken is not one that this server gave.")
        return int(self.page_token)


@dataclass(frozen=True, slots=True, kw_only=True)
class TaskPage:
    tasks: list[Task]
    next_page_token: str
    total: int


class TaskStore(Protocol):
    """Tasks by owner, with their push notification configurations, which go when the task goes. A task that is saved
    again replaces what was there and keeps its place. Every method raises `TaskNotFound` for a task that is not there,
    also for those of others."""

    async def save(self, task: Task, owner: str, *, runs_seconds: float, message_key: str = "") -> PushConfigs:
        """Keep `task`, which runs for `runs_seconds` more at most; `message_key` names the message that began it. The
        configurations it has. Raises `Overloaded` when there is no room."""
        ...

    async def load(self, task_id: str, owner: str) -> Task: ...

    async def find(self, message_key: str, owner: str) -> Task | None:
        """The task that this message began."""
        ...

    async def page(self, owner: str, query: TaskQuery) -> TaskPage: ...

    async def push_configs(self, task_id: str, owner: str) -> PushConfigs: ...

    async def set_push_configs(self, task_id: str, owner: str, configs: PushConfigs) -> None: ...

    async def close(self) -> None: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Kept:
    number: int
    task_id: str
    owner: str
    context_id: str
    state: str
    changed_at: str
    content: Task | bytes
    size: int
    saved_at: float
    message_key: str
    push: PushConfigs = ()

    @property
    def task(self) -> Task:
        return from_json(self.content) if isinstance(self.content, bytes) else self.content


class MemoryTaskStore:
    """The tasks of this process, bounded in number; the ended ones, kept as bytes, also in these and in age."""

    def __init__(self, *, max_tasks: int, max_bytes: int, ttl_seconds: float) -> None:
        self._max_tasks = max_tasks
        self._max_bytes = max_bytes
        self._ttl_seconds = ttl_seconds
        self._kept: OrderedDict[str, Kept] = OrderedDict()
        self._of_owner: dict[str, dict[str, Kept]] = {}
        self._by_message: dict[tuple[str, str], str] = {}
        self._saved = 0
        self._bytes = 0

    async def save(self, task: Task, owner: str, *, runs_seconds: float, message_key: str = "") -> PushConfigs:
        before = self._kept.get(task["id"])
        state = task["status"]["state"]
        content = to_json(task) if state in ENDED else task
        size = len(content) if isinstance(content, bytes) else 0
        self._make_room(0 if before else 1, size, task["id"])
        if before is None:
            self._saved += 1
        else:
            del self._kept[before.task_id]
            self._bytes -= before.size
        kept = Kept(
            number=before.number if before else self._saved,
            task_id=task["id"],
            owner=owner,
            context_id=task["contextId"],
            state=state,
            changed_at=task["status"]["timestamp"],
            content=content,
            size=size,
            saved_at=time.monotonic(),
            message_key=message_key or (before.message_key if before else ""),
            push=before.push if before else (),
        )
        self._keep(kept)
        return kept.push

    async def load(self, task_id: str, owner: str) -> Task:
        return self._get(task_id, owner).task

    async def find(self, message_key: str, owner: str) -> Task | None:
        self._forget_old()
        task_id = self._by_message.get((owner, message_key))
        return None if task_id is None else self._kept[task_id].task

    async def page(self, owner: str, query: TaskQuery) -> TaskPage:
        self._forget_old()
        found = [kept for kept in reversed(self._of_owner.get(owner, {}).values()) if is_wanted(kept, query)]
        before = query.before()
        rest = [kept for kept in found if before is None or kept.number < before]
        page = rest[: query.size]
        token = str(page[-1].number) if len(rest) > len(page) else ""
        return TaskPage(tasks=[kept.task for kept in page], next_page_token=token, total=len(found))

    async def push_configs(self, task_id: str, owner: str) -> PushConfigs:
        return self._get(task_id, owner).push

    async def set_push_configs(self, task_id: str, owner: str, configs: PushConfigs) -> None:
        kept = replace(self._get(task_id, owner), push=tuple(configs))
        self._kept[task_id] = self._of_owner[owner][task_id] = kept

    async def close(self) -> None:
        """Memory needs no closing."""

    def _get(self, task_id: str, owner: str) -> Kept:
        self._forget_old()
        kept = self._kept.get(task_id)
        if kept is None or kept.owner != owner:
            raise TaskNotFound(f"There is no task {task_id!r:.80} of yours.")
        return kept

    def _keep(self, kept: Kept) -> None:
        self._kept[kept.task_id] = kept
        self._of_owner.setdefault(kept.owner, {})[kept.task_id] = kept
        self._bytes += kept.size
        if kept.message_key:
            self._by_message[kept.owner, kept.message_key] = kept.task_id

    def _make_room(self, tasks: int, size: int, task_id: str) -> None:
        """Ended tasks give way, the oldest first. A running one that grew is kept whatever its size: its agent's
        answer is bounded elsewhere."""
        self._forget_old()
        while len(self._kept) + tasks > self._max_tasks or self._bytes + size > self._max_bytes:
            ended = next((kept for kept in self._ended() if kept.task_id != task_id), None)
            if ended is None and tasks:
                raise Overloaded("All places for tasks are taken by running ones.", retry_after_seconds=1.0)
            if ended is None:
                return
            self._forget(ended)

    def _forget_old(self) -> None:
        """Looks at the longest unchanged only, so it costs nothing; a long task delays the end of others at most."""
        limit = time.monotonic() - self._ttl_seconds
        while self._kept:
            oldest = next(iter(self._kept.values()))
            if oldest.saved_at > limit or oldest.state not in ENDED:
                return
            self._forget(oldest)

    def _ended(self) -> Iterator[Kept]:
        return (kept for kept in self._kept.values() if kept.state in ENDED)

    def _forget(self, kept: Kept) -> None:
        del self._kept[kept.task_id]
        self._by_message.pop((kept.owner, kept.message_key), None)
        self._bytes -= kept.size
        owned = self._of_owner[kept.owner]
        del owned[kept.task_id]
        if not owned:
            del self._of_owner[kept.owner]


def is_wanted(kept: Kept, query: TaskQuery) -> bool:
    return (
        (not query.context_id or kept.context_id == query.context_id)
        and (not query.state or kept.state == query.state)
        and (not query.changed_after_ns or nanoseconds(kept.changed_at) >= query.changed_after_ns)
    )


def nanoseconds(timestamp: str) -> int:
    """Unix nanoseconds of an RFC 3339 timestamp. Raises `ValueError`."""
    moment = datetime.fromisoformat(timestamp)
    if moment.tzinfo is None:
        raise ValueError("the timestamp has no time zone")
    return round(moment.timestamp() * 1_000) * 1_000_000
