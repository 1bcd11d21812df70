"""One attempt at one invocation: the engine's run, with its events and its end in PostgreSQL."""

import asyncio
import datetime as dt
from collections.abc import Mapping
from contextlib import aclosing
from dataclasses import dataclass, replace
from typing import Any
from uuid import UUID

import structlog
from pydantic_core import from_json, to_json

from lakemesh.config.invocations import InvocationsConfig
from lakemesh.engine.router import AgentRouter
from lakemesh.errors import AgentFailed, Cancelled, DatabaseUnavailable, LakemeshError, TryLater, Unavailable
from lakemesh.invocations.durable import DurableState
from lakemesh.invocations.event_log import EventLog, LeaseLost
from lakemesh.invocations.schemas import Claim, Invocation, Status, Written
from lakemesh.invocations.store import InvocationStore
from lakemesh.schemas import AgentInput, Completed, Event, Failed, Started, TextDelta

logger = structlog.get_logger(__name__)

CANCELLED = Cancelled("The invocation was cancelled.")
FINISH_ATTEMPTS = 50
FINISH_RETRY_SECONDS = 0.2


class Attempt:
    """Runs a claimed invocation to its end, or back into the queue. `run` returns when that is committed, or raises
    `LeaseLost`. Cancelling its task gives the invocation back to the queue: that is for a server that stops."""

    def __init__(
        self, claim: Claim, *, worker: UUID, store: InvocationStore, router: AgentRouter, config: InvocationsConfig
    ) -> None:
        self.claim = claim
        self._worker = worker
        self._store = store
        self._router = router
        self._config = config
        self._log = EventLog(store, claim, worker)
        self.ended: Ended | None = None
        self._last: Completed | Failed | None = None
        self._running: asyncio.Future[LakemeshError | None] | None = None
        self._parking = False

    async def run(self) -> None:
        writing = asyncio.ensure_future(self._log.write_until_closed())
        running = self._running = asyncio.ensure_future(self._run_agent())
        cancelling = asyncio.ensure_future(self._watch_for_cancel(running))
        try:
            await asyncio.wait([writing, running], return_when=asyncio.FIRST_COMPLETED)
            if writing.done():
                await writing  # raises `LeaseLost`
            self._log.close()
            await writing
            refused = CANCELLED if running.cancelled() else running.result()
        except asyncio.CancelledError:
            await stop(running, cancelling, writing)
            await self._store.write(self.claim, self._worker, [interrupted(self.claim)], status="queued", refund=1)
            raise
        finally:
            await stop(running, cancelling, writing)
        if self._parking and running.cancelled():
            await self._write_rest()
            await self._store.write(self.claim, self._worker, (), status="waiting")
        else:
            await self._end(refused)

    async def _run_agent(self) -> LakemeshError | None:
        """The engine's events into the log, all but the last; the error when the engine refused to begin."""
        claim = self.claim
        request = AgentInput(
            agent_name=claim.agent_name,
            data=claim.input,
            session_id=claim.session_id,
            timeout_seconds=claim.timeout_seconds,
            metadata=claim.metadata,
        )
        try:
            events = self._router.stream(
                request,
                identity=claim.identity,
                door=claim.door,
                parent=claim.parent,
                durable=self._durable(),
                execution_id=claim.execution_id,
            )
            async with aclosing(events):
                async for event in events:
                    await self._note(event)
        except LakemeshError as error:
            return error
        return None

    async def _note(self, event: Event) -> None:
        if isinstance(event, Completed | Failed):
            self._last = event
            return
        if isinstance(event, Started):
            self._log.execution_id = event.execution_id
        await self._log.put(event.type, encoded(event))

    def _durable(self) -> DurableState:
        return DurableState(
            self.claim,
            worker=self._worker,
            store=self._store,
            park_seconds=self._config.park_seconds,
            on_asked=lambda event: self._log.put_now(event.type, encoded(event)),
            on_long_wait=self._park,
        )

    def _park(self) -> None:
        if self._running is not None:
            self._parking = True
            self._running.cancel()

    async def _write_rest(self) -> None:
        events = merged(self._log.take())
        if await self._store.write(self.claim, self._worker, events) is None:
            raise LeaseLost

    async def _watch_for_cancel(self, running: "asyncio.Future[Any]") -> None:
        with self._store.database.notifications.subscribe(f"cancel/{self.claim.number}") as woken:
            if not self.claim.background and self.claim.attempt == 1:
                woken.clear()  # it began with its acceptance: nobody can have cancelled it before
            while True:
                await woken.wait()
                woken.clear()
                if await self._store.cancel_requested(self.claim.number):
                    running.cancel()
                    return

    async def _end(self, refused: LakemeshError | None) -> None:
        """Commit how it ended: the answer, a failure, or another try later."""
        events = merged(self._log.take())
        if isinstance(self._last, Completed):
            output = self._last.output.body
            await self._finish([*events, ("completed", output)], status="completed", output=output)
            return
        problem = self._problem(refused)
        delay = self._retry_after(refused, problem)
        if delay is not None:
            counts = refused is None
            again = ("interrupted", to_json({"attempt": self.claim.attempt, "error": problem}))
            await self._requeue([*events, again], after_seconds=delay, counts=counts)
            return
        error = to_json(problem)
        cancelled = problem.get("code") == Cancelled.code
        await self._finish(
            [*events, ("failed", error)],
            status="cancelled" if cancelled else "failed",
            error=error,
            dead=self.claim.background and is_transient(problem) and not cancelled,
        )

    def _problem(self, refused: LakemeshError | None) -> Mapping[str, Any]:
        if refused is not None:
            return refused.to_problem()
        if isinstance(self._last, Failed):
            return self._last.error
        return AgentFailed("The execution ended in an unexpected way.").to_problem()

    def _retry_after(self, refused: LakemeshError | None, problem: Mapping[str, Any]) -> float | None:
        """Seconds until the next try, or None when this was the last one. Somebody who waits for the answer decides
        himself whether to ask again."""
        if not self.claim.background:
            return None
        if isinstance(refused, TryLater):
            return refused.retry_after_seconds or self._config.retry_seconds
        if is_transient(problem) and self.claim.attempt < self._config.max_attempts:
            return float(self._config.retry_seconds * 2 ** (self.claim.attempt - 1))
        return None

    async def _finish(
        self,
        events: list[Written],
        *,
        status: Status,
        output: bytes | None = None,
        error: bytes | None = None,
        dead: bool = False,
    ) -> None:
        for _ in range(FINISH_ATTEMPTS):
            try:
                wrote = await self._store.write(
                    self.claim,
                    self._worker,
                    events,
                    status=status,
                    output=output.decode() if output is not None else None,
                    error=error.decode() if error is not None else None,
                    dead=dead,
                    execution_id=self._log.execution_id,
                )
            except DatabaseUnavailable:
                await asyncio.sleep(FINISH_RETRY_SECONDS)
                continue
            if wrote is None:
                raise LeaseLost
            self.ended = Ended(status, output, error, wrote.ended_at)
            return
        raise LeaseLost

    async def _requeue(self, events: list[Written], *, after_seconds: float, counts: bool) -> None:
        refund = 0 if counts else 1
        wrote = await self._store.write(
            self.claim, self._worker, events, status="queued", after_seconds=after_seconds, refund=refund
        )
        if wrote is None:
            raise LeaseLost


@dataclass(frozen=True, slots=True)
class Ended:
    """How an attempt ended its invocation: what was committed, so that who waits here need not read it back."""

    status: Status
    output: bytes | None
    error: bytes | None
    ended_at: dt.datetime | None

    def applied_to(self, invocation: Invocation) -> Invocation:
        return replace(
            invocation,
            status=self.status,
            output=from_json(self.output) if self.output is not None else None,
            error=from_json(self.error) if self.error is not None else None,
            ended_at=self.ended_at,
        )


TRANSIENT_ERRORS: tuple[type[LakemeshError], ...] = (
    Unavailable,
    *Unavailable.__subclasses__(),
    *TryLater.__subclasses__(),
    DatabaseUnavailable,
)
TRANSIENT = frozenset(error.code for error in TRANSIENT_ERRORS)


def is_transient(problem: Mapping[str, Any]) -> bool:
    """Whether the same request may succeed later."""
    return problem.get("code") in TRANSIENT


def encoded(event: Event) -> bytes:
    return to_json(event.to_dict(), inf_nan_mode="null", fallback=repr)


def interrupted(claim: Claim) -> Written:
    return "interrupted", to_json({"attempt": claim.attempt})


def merged(events: list[Written]) -> list[Written]:
    """Pieces of text that go out together are one event."""
    joined: list[Written] = []
    for kind, data in events:
        if kind == TextDelta.type and joined and joined[-1][0] == kind:
            text = from_json(joined[-1][1])["text"] + from_json(data)["text"]
            joined[-1] = kind, to_json({"text": text})
        else:
            joined.append((kind, data))
    return joined


async def stop(*tasks: "asyncio.Future[Any]") -> None:
    """Cancel them and wait until they have ended; how is nobody's concern. One that swallows the cancellation, as the
    database's pool may, gets another."""
    waiting = set(tasks)
    while waiting:
        for task in waiting:
            task.cancel()
        _, waiting = await asyncio.wait(waiting, timeout=1.0)
    await asyncio.gather(*tasks, return_exceptions=True)
