"""The process' part in running invocations: its heartbeat, what it claims from the queue, what it takes over from the
dead, and when it lets go."""

import asyncio
import time
from uuid import UUID, uuid4

import structlog
from pydantic_core import to_json

from lakemesh.config.invocations import InvocationsConfig
from lakemesh.engine.router import AgentRouter
from lakemesh.errors import AgentFailed, LakemeshError
from lakemesh.invocations.attempt import CANCELLED, Attempt, Ended
from lakemesh.invocations.event_log import LeaseLost
from lakemesh.invocations.schemas import Claim
from lakemesh.invocations.store import InvocationStore

logger = structlog.get_logger(__name__)

HEARTBEATS_PER_LEASE = 4
CLEANING_SECONDS = 3_600.0
MIN_WAIT_SECONDS = 0.05
QUEUE_TOPIC = "invocations"


class Worker:
    """Runs up to `max_running` invocations of the queue beside those its own doors accepted. A worker whose heartbeat
    did not come through for a whole lease gives its runs up by itself: by then another may have taken them."""

    def __init__(self, store: InvocationStore, router: AgentRouter, config: InvocationsConfig) -> None:
        self.id: UUID = uuid4()
        self._store = store
        self._router = router
        self._config = config
        self._attempts: dict[tuple[int, int], asyncio.Task[Ended | None]] = {}
        """By number and attempt: a former attempt may still be ending when the next one begins."""
        self._missing: set[tuple[int, int]] = set()
        self._slot_free = asyncio.Event()
        self._tasks: list[asyncio.Task[None]] = []
        self._heard_at = 0.0
        self._closing = False
        self._reason: str | None = None

    def configure(self, config: InvocationsConfig) -> None:
        self._config = config

    @property
    def alive(self) -> bool:
        """Whether the heartbeat is fresh enough to accept work as this worker's own."""
        return not self._closing and time.monotonic() - self._heard_at < self._config.lease_seconds / 2

    @property
    def running(self) -> int:
        return len(self._attempts)

    def health(self) -> dict[str, object]:
        return {"running": len(self._attempts), "degraded": self._reason}

    async def start(self) -> None:
        """Be known as alive, then work. Raises `DatabaseUnavailable`."""
        await self._store.heartbeat(self.id)
        self._heard_at = time.monotonic()
        self._tasks = [asyncio.ensure_future(self._beat_for_ever()), asyncio.ensure_future(self._claim_for_ever())]

    def begin(self, claim: Claim) -> "asyncio.Task[Ended | None]":
        """Run a claimed invocation; the task ends when how it ended is committed, and says so unless it goes on
        elsewhere."""
        attempt = Attempt(claim, worker=self.id, store=self._store, router=self._router, config=self._config)
        task = asyncio.ensure_future(self._run(attempt))
        self._attempts[claim.number, claim.attempt] = task
        task.add_done_callback(lambda _: self._ended(claim))
        return task

    async def close(self) -> None:
        """Give what still runs back to the queue, for others."""
        self._closing = True
        for task in (*self._tasks, *self._attempts.values()):
            task.cancel()
        await asyncio.gather(*self._tasks, *self._attempts.values(), return_exceptions=True)
        try:
            await self._store.retire(self.id)
        except LakemeshError as error:
            logger.warning("worker not retired", reason=error.detail)  # others find it dead after its lease

    def attempt_at(self, number: int) -> "asyncio.Task[Ended | None] | None":
        """The attempt at this invocation that runs here now."""
        return next((task for (own, _), task in reversed(self._attempts.items()) if own == number), None)

    async def _run(self, attempt: Attempt) -> Ended | None:
        try:
            await attempt.run()
        except LeaseLost:
            logger.warning("invocation taken over by another worker", invocation=str(attempt.claim.id))
        except LakemeshError as error:
            logger.error("invocation's end not written", invocation=str(attempt.claim.id), reason=error.detail)
        return attempt.ended

    def _ended(self, claim: Claim) -> None:
        self._attempts.pop((claim.number, claim.attempt), None)
        self._slot_free.set()

    async def _beat_for_ever(self) -> None:
        cleaned_at = time.monotonic()
        while True:
            try:
                await self._store.heartbeat(self.id)
                self._heard_at, self._reason = time.monotonic(), None
                await self._take_over()
                if time.monotonic() - cleaned_at > CLEANING_SECONDS:
                    cleaned_at = time.monotonic()
                    await self._store.expire(days=self._config.retention_days)
            except LakemeshError as error:
                self._reason = error.detail
                self._give_up_when_stale()
            await asyncio.sleep(self._config.lease_seconds / HEARTBEATS_PER_LEASE)

    async def _take_over(self) -> None:
        lost = AgentFailed("The server that ran it went away, as often as it was tried.").to_problem()
        taken = await self._store.take_over(
            lease_seconds=self._config.lease_seconds,
            max_attempts=self._config.max_attempts,
            worker=self.id,
            orphans=await self._orphans(),
            error=to_json(lost),
            cancelled=to_json(CANCELLED.to_problem()),
        )
        if taken:
            logger.warning("invocations that nobody runs taken over", count=taken)

    async def _orphans(self) -> set[tuple[int, int]]:
        """What the store says runs here, and does not: its claim was committed, or its end was not, when a connection
        was cut. Seen by two heartbeats, since what was just claimed has not begun yet."""
        missing = await self._store.held_by(self.id) - self._attempts.keys()
        orphans, self._missing = missing & self._missing, missing
        return orphans

    def _give_up_when_stale(self) -> None:
        if time.monotonic() - self._heard_at > self._config.lease_seconds:
            for task in self._attempts.values():
                task.cancel()

    async def _claim_for_ever(self) -> None:
        """Woken by a commit that queued something, by a run that ended, and when a retry is due."""
        with self._store.database.notifications.subscribe(QUEUE_TOPIC) as woken:
            while True:
                woken.clear()
                wait_seconds = await self._claim()
                self._slot_free.clear()
                await first_of(woken, self._slot_free, timeout_seconds=wait_seconds)

    async def _claim(self) -> float | None:
        """Claim as much as there is room for; seconds until it is worth looking again without being woken."""
        room = self._config.max_running - len(self._attempts)
        if room <= 0 or not self.alive or self._router.admission.draining:
            return self._config.lease_seconds / HEARTBEATS_PER_LEASE
        try:
            claims = await self._store.claim(self.id, limit=room, per_user=self._config.max_running_per_user)
            for claim in claims:
                self.begin(claim)
            if len(claims) == room:
                return None  # a slot that becomes free wakes
            upcoming = await self._store.seconds_to_next()
            return None if upcoming is None else max(upcoming, MIN_WAIT_SECONDS)
        except LakemeshError as error:
            self._reason = error.detail
            return self._config.lease_seconds / HEARTBEATS_PER_LEASE


async def first_of(*events: asyncio.Event, timeout_seconds: float | None) -> None:
    """Return when one of them is set, or the time is over."""
    waits = [asyncio.ensure_future(event.wait()) for event in events]
    try:
        await asyncio.wait(waits, timeout=timeout_seconds, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for wait in waits:
            wait.cancel()
