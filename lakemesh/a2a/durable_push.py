"""Push notifications over replicas: kept with their task, each sent by one replica, taken over from one that died."""

import asyncio
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Any
from uuid import UUID

import structlog
from pydantic_core import to_json

from lakemesh.a2a.durable_task import DurableTask
from lakemesh.a2a.push import Push
from lakemesh.a2a.tasks import PushConfig, joined
from lakemesh.errors import LakemeshError, RateLimited
from lakemesh.invocations import Invocations

logger = structlog.get_logger(__name__)

NOBODY = UUID(int=0)
LOOKS_PER_LEASE = 2
CONFIGS = "SELECT config FROM lakemesh.a2a_push WHERE invocation = %s ORDER BY added_at, id"
ADD = """
INSERT INTO lakemesh.a2a_push (invocation, id, config, holder, done)
VALUES (%(number)s, %(id)s, %(config)s, %(holder)s, %(done)s)
ON CONFLICT (invocation, id) DO UPDATE SET config = excluded.config, holder = excluded.holder, done = excluded.done,
    sequence = 0
"""
REMOVE = "DELETE FROM lakemesh.a2a_push WHERE invocation = %s AND id = %s"
MINE = "SELECT FROM lakemesh.a2a_push WHERE invocation = %s AND id = %s AND holder = %s AND NOT done"
SENT = "UPDATE lakemesh.a2a_push SET sequence = %s, done = %s WHERE invocation = %s AND id = %s AND holder = %s"
LET_GO = "UPDATE lakemesh.a2a_push SET holder = %s WHERE invocation = %s AND id = %s AND holder = %s"
TAKE_OVER = """
UPDATE lakemesh.a2a_push SET holder = %(worker)s
WHERE NOT done AND (holder = %(worker)s OR NOT EXISTS (
    SELECT FROM lakemesh.workers
    WHERE workers.id = holder AND heartbeat_at > now() - make_interval(secs => %(lease_seconds)s)))
RETURNING invocation, id, config, sequence
"""


class DurablePush:
    """What a receiver was told is noted after it took it, so that one replica's death doubles one notification at most,
    and loses none. `task_at` gives a task as it was at an event."""

    def __init__(
        self, invocations: Invocations, push: Push, task_at: Callable[[int, int], Awaitable[DurableTask]]
    ) -> None:
        self._invocations = invocations
        self._push = push
        self._task_at = task_at
        self._followed: set[tuple[int, Any]] = set()
        self._looking: asyncio.Task[None] | None = None

    def begin(self) -> None:
        """Take over what dead replicas held, and what broke off here, from now on."""
        self._looking = asyncio.ensure_future(self._look_for_ever())

    async def configs(self, task: DurableTask) -> list[PushConfig]:
        return [row[0] for row in await self._invocations.store.database.fetch(CONFIGS, (task.number,))]

    async def add(self, task: DurableTask, config: PushConfig) -> None:
        """Raises `InvalidParams` over the limit of a task."""
        joined(await self.configs(task), config)
        values = {
            "number": task.number,
            "id": config["id"],
            "config": to_json(config).decode(),
            "holder": self._holder,
            "done": task.ended,
        }
        await self._invocations.store.database.execute(ADD, values)
        if not task.ended:
            await self._follow(await self._task_at(task.number, task.sequence), config, goes_on=False)

    async def remove(self, task: DurableTask, config_id: str) -> None:
        await self._invocations.store.database.execute(REMOVE, (task.number, config_id))
        self._push.stop(task.id, config_id)

    async def close(self) -> None:
        if self._looking is not None:
            self._looking.cancel()
            await asyncio.gather(self._looking, return_exceptions=True)

    @property
    def _holder(self) -> UUID:
        return self._invocations.worker.id

    async def _follow(self, task: DurableTask, config: PushConfig, *, goes_on: bool) -> None:
        place = (task.number, config["id"])
        try:
            delivery = self._push.follow(
                task,
                config,
                goes_on=goes_on,
                may_send=partial(self._is_mine, place),
                on_sent=partial(self._note_sent, task, place),
            )
        except RateLimited:  # later, by whoever has room then
            await self._invocations.store.database.execute(LET_GO, (NOBODY, *place, self._holder))
        else:
            self._followed.add(place)
            delivery.add_done_callback(lambda _: self._followed.discard(place))

    async def _is_mine(self, place: tuple[int, Any]) -> bool:
        """Whether it was neither removed nor taken over meanwhile."""
        return bool(await self._invocations.store.database.fetch(MINE, (*place, self._holder)))

    async def _note_sent(self, task: DurableTask, place: tuple[int, Any]) -> None:
        # Nobody is told twice how it began, so that what was told once is at least the first event.
        sequence = max(task.sequence, 1)
        await self._invocations.store.database.execute(SENT, (sequence, task.ended, *place, self._holder))

    async def _look_for_ever(self) -> None:
        await self._invocations.started()
        while True:
            try:
                await self._take_over()
            except LakemeshError as error:
                logger.warning("push notifications of others not looked for", reason=error.detail)
            await asyncio.sleep(self._invocations.lease_seconds / LOOKS_PER_LEASE)

    async def _take_over(self) -> None:
        values = {"worker": self._holder, "lease_seconds": self._invocations.lease_seconds}
        for number, config_id, config, sequence in await self._invocations.store.database.fetch(TAKE_OVER, values):
            if (number, config_id) not in self._followed:
                await self._follow(await self._task_at(number, sequence), config, goes_on=sequence > 0)
