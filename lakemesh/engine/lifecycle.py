"""One agent from its start to its close."""

import asyncio
import random
from collections.abc import Callable
from typing import Any, Literal

import structlog

from lakemesh.agents.base import Agent
from lakemesh.deadline import Deadline
from lakemesh.engine.drive import Drive
from lakemesh.errors import Unavailable

logger = structlog.get_logger(__name__)

FIRST_PAUSE_SECONDS = 1.0
LONGEST_PAUSE_SECONDS = 60.0
CLOSE_SECONDS = 10.0

State = Literal["starting", "ready", "failed", "closed"]


class Lifecycle:
    """Starts an agent, counts its runs, and closes it once it is retired and its last run has ended.

    A start has `start_seconds`; one that fails is tried again with growing pauses until the agent is retired. What an
    agent does in `start` and `close` (raise, hang, exit) is its own loss. `fault` is why the last start failed, for
    the log and for operators: it may hold what callers should not see.
    """

    def __init__(
        self, agent: Agent[Any, Any], *, start_seconds: float, on_ready: Callable[["Lifecycle"], None] | None = None
    ) -> None:
        self.agent = agent
        self.state: State = "starting"
        self.fault: str | None = None
        self.runs = 0
        self.retired = False
        self._start_seconds = start_seconds
        self._on_ready = on_ready
        self._tried = asyncio.Event()
        self._starting: asyncio.Task[None] | None = None
        self._closing: asyncio.Task[None] | None = None

    async def start(self, wait_seconds: float) -> None:
        """Begin to start; return when the first try is over, or after `wait_seconds` while it goes on."""
        self._starting = asyncio.create_task(self._start_until_ready())
        try:
            async with asyncio.timeout(wait_seconds):
                await self._tried.wait()
        except TimeoutError:
            logger.warning("agent is slow to start", agent=self.agent.name, waited_seconds=wait_seconds)

    def enter(self) -> None:
        """One more run, to be paired with `leave`. Raises `Unavailable` while the agent has not started."""
        if self.state != "ready":
            word = "is starting" if self.state == "starting" else "could not start; its operator finds why in the log"
            raise Unavailable(f"The agent {self.agent.name!r} {word}.", retry_after_seconds=FIRST_PAUSE_SECONDS)
        self.runs += 1

    def leave(self) -> None:
        self.runs -= 1
        if self.retired and self.runs == 0:
            self._close_soon()

    def retire(self) -> None:
        """No run begins any more; close the agent when the last one has ended."""
        self.retired = True
        if self._starting is not None:
            self._starting.cancel()
        if self.runs == 0:
            self._close_soon()

    async def closed(self) -> None:
        """Retire the agent and close it now, whether or not something still runs."""
        self.retire()
        self._close_soon()
        assert self._closing is not None
        await asyncio.wait([self._closing])

    async def _start_until_ready(self) -> None:
        pause = FIRST_PAUSE_SECONDS
        while not await self._start_once():
            await asyncio.sleep(pause * random.uniform(0.75, 1.25))  # noqa: S311 - jitter
            pause = min(2 * pause, LONGEST_PAUSE_SECONDS)

    async def _start_once(self) -> bool:
        try:
            await Drive(Deadline.after(self._start_seconds)).run(self.agent.start())
            self.state, self.fault = "ready", None
            if self._on_ready is not None:
                self._on_ready(self)
        except (asyncio.CancelledError, GeneratorExit):
            raise
        except BaseException as error:
            self.state, self.fault = "failed", f"{type(error).__name__}: {error}"
            logger.error("agent did not start", agent=self.agent.name, exc_info=error)
        self._tried.set()
        return self.state == "ready"

    def _close_soon(self) -> None:
        if self._closing is None:
            self._closing = asyncio.create_task(self._close())

    async def _close(self) -> None:
        if self._starting is not None and not self._starting.done():
            self._starting.cancel()
            await asyncio.wait([self._starting])
        started, self.state = self.state != "starting", "closed"
        if not started:
            return
        try:
            await Drive(Deadline.after(CLOSE_SECONDS)).run(self.agent.close())
        except (asyncio.CancelledError, GeneratorExit):
            raise
        except BaseException as error:
            logger.error("agent did not close", agent=self.agent.name, exc_info=error)
