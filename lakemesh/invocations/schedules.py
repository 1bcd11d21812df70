"""Runs begun by the clock: durable invocations whose id is made of the schedule and the moment, so that one of all
replicas' is accepted and the others find it there."""

import asyncio
import time
import uuid
from collections.abc import Mapping

import structlog

from lakemesh.config.schedules import ScheduleConfig
from lakemesh.errors import CallerError, LakemeshError
from lakemesh.invocations.schemas import NewInvocation
from lakemesh.invocations.service import Invocations
from lakemesh.schemas import Identity

logger = structlog.get_logger(__name__)

NAMESPACE = uuid.UUID("6f0a8f1e-5e0e-4c57-9d0f-6a1d3f0f7a31")
RETRY_SECONDS = 5.0
"""While the database is away; the moment is not lost, unless the next one comes before it is back."""


class Schedules:
    """A server that starts runs what is due since the last moment, if no other did: at most one run of each."""

    def __init__(self, invocations: Invocations, schedules: Mapping[str, ScheduleConfig]) -> None:
        self._invocations = invocations
        self._running: dict[str, asyncio.Task[None]] = {}
        self._schedules: Mapping[str, ScheduleConfig] = {}
        self.configure(schedules)

    def configure(self, schedules: Mapping[str, ScheduleConfig]) -> None:
        """From now on these; what they began goes on."""
        for name, known in self._schedules.items():
            if schedules.get(name) != known:
                self._running.pop(name).cancel()
        for name, schedule in schedules.items():
            if name not in self._running:
                self._running[name] = asyncio.ensure_future(self._run_for_ever(name, schedule))
        self._schedules = dict(schedules)

    async def close(self) -> None:
        for task in self._running.values():
            task.cancel()
        await asyncio.gather(*self._running.values(), return_exceptions=True)

    async def _run_for_ever(self, name: str, schedule: ScheduleConfig) -> None:
        if not schedule.enabled:
            return
        seconds = schedule.every_minutes * 60
        await self._invocations.started()
        while True:
            moment = int(time.time()) // seconds
            is_done = await self._submitted(name, schedule, moment)
            left = max((moment + 1) * seconds - time.time(), 0.05)
            await asyncio.sleep(left if is_done else min(left, RETRY_SECONDS))

    async def _submitted(self, name: str, schedule: ScheduleConfig, moment: int) -> bool:
        """Whether nothing is left to do for this moment."""
        begun = f"{name}/{schedule.every_minutes}/{moment}"
        new = NewInvocation(
            id=uuid.uuid5(NAMESPACE, begun), agent_name=schedule.agent, input=schedule.input, background=True
        )
        try:
            await self._invocations.submit(new, Identity(user=f"schedule:{name}", kind="service"))
        except LakemeshError as error:
            logger.warning("scheduled run not begun", schedule=name, agent=schedule.agent, reason=error.detail)
            return isinstance(error, CallerError)
        return True
