"""How much work at once: a concurrency limit with a bounded queue, and the drain at the end."""

import asyncio
from collections import deque

from lakemesh.config.governance import LimitsConfig
from lakemesh.deadline import Deadline
from lakemesh.errors import Overloaded, ShuttingDown


class Admission:
    """Slots for running requests. First come, first served; a full queue refuses at once, so that a caller
    learns of the overload while waiting elsewhere still helps. Limits may change at any time: more slots are given to
    those who wait at once, fewer are reached as running requests end."""

    def __init__(self, config: LimitsConfig) -> None:
        self._waiting: deque[asyncio.Future[None]] = deque()
        self._idle: asyncio.Event | None = None
        self.active = 0
        self.draining = False
        self.configure(config)

    def configure(self, config: LimitsConfig) -> None:
        self._max_concurrency = config.max_concurrency
        self._max_queue = config.max_queue
        self._grant()

    @property
    def queued(self) -> int:
        return len(self._waiting)

    def try_enter(self) -> bool:
        """Take a slot if one is free and nobody waits for it. Raises `ShuttingDown` while draining."""
        if self.draining:
            raise ShuttingDown("The server is going down; send the request again.", retry_after_seconds=1.0)
        if self.active >= self._max_concurrency or self._waiting:
            return False
        self.active += 1
        return True

    async def enter(self, deadline: Deadline) -> None:
        """Take a slot, waiting in the queue until `deadline`. Raises `Overloaded`, `DeadlineExceeded` or
        `ShuttingDown`. Every successful call is paired with one `leave`."""
        if self.try_enter():
            return
        if len(self._waiting) >= self._max_queue:
            raise Overloaded(
                f"The server runs {self.active} requests and {len(self._waiting)} wait; send it again later.",
                retry_after_seconds=1.0,
            )
        turn = asyncio.get_running_loop().create_future()
        self._waiting.append(turn)
        try:
            async with deadline.enforced("The deadline passed while the request waited for its turn."):
                await turn
        except BaseException:
            self._give_up(turn)
            raise

    def leave(self) -> None:
        """Give the slot back; who waits longest gets it, unless the limit has become smaller."""
        self.active -= 1
        self._grant()
        if self.active == 0 and self._idle is not None:
            self._idle.set()

    async def drain(self, grace_seconds: float) -> bool:
        """Refuse new work, send the queue away and wait for the rest; False when some was still running."""
        self.draining = True
        while self._waiting:
            turn = self._waiting.popleft()
            if not turn.done():
                turn.set_exception(ShuttingDown("The server is going down.", retry_after_seconds=1.0))
        if self.active == 0:
            return True
        self._idle = asyncio.Event()
        try:
            async with asyncio.timeout(grace_seconds):
                await self._idle.wait()
        except TimeoutError:
            return False
        return True

    def _grant(self) -> None:
        while self._waiting and self.active < self._max_concurrency:
            turn = self._waiting.popleft()
            if not turn.done():
                self.active += 1
                turn.set_result(None)

    def _give_up(self, turn: asyncio.Future[None]) -> None:
        if turn in self._waiting:
            self._waiting.remove(turn)
        elif turn.done() and not turn.cancelled() and turn.exception() is None:
            self.leave()  # the slot came at the very moment the wait ended
