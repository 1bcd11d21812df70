"""Running a coroutine that may do anything, inside the task of who waits for it, until its deadline."""

import asyncio
import time
import types
from collections.abc import Callable, Coroutine, Generator
from contextlib import suppress
from typing import Any, TypeVar

from lakemesh.deadline import Deadline

T = TypeVar("T")

GRACE_SECONDS = 2.0
"""How long a cancelled coroutine may take to clean up before it is closed where it stands."""


class DeadlinePassed(Exception):
    """The coroutine had no result by its deadline. `blocked`: it had kept the event loop to itself until then."""

    def __init__(self, *, blocked: bool = False) -> None:
        super().__init__("the deadline passed")
        self.blocked = blocked


class CancelledItself(Exception):
    """The coroutine cancelled the task it ran in, or waited for something that somebody else had cancelled."""


class Drive:
    """Steps one coroutine, so that whatever it does is told apart and bounded:

    - A cancellation that arrives while it waits is its caller's, and is passed on; one that it brings about itself in
      a step of its own, and a `CancelledError` nobody asked for, is `CancelledItself`.
    - Its deadline passes by a timer of this object's own, so no clocks are compared; a coroutine that never waits needs
      no timer at all, and is late when the clock says so.
    - Cancelled and still waiting `GRACE_SECONDS` later, it is closed: nothing waits for it any longer.

    No task is made for it: a step costs a function call.
    """

    __slots__ = (
        "_abandoned", "_base", "_cancels", "_deadline", "_expired", "_in_grace", "_paused_at", "_pauses", "_task",
        "_timer",
    )  # fmt: skip

    def __init__(self, deadline: Deadline) -> None:
        self._deadline = deadline
        self._timer: asyncio.TimerHandle | None = None
        self._task: asyncio.Task[Any]
        self._base = 0
        self._cancels = 0
        self._expired = self._abandoned = self._in_grace = False
        self._pauses = 0
        self._paused_at = 0.0

    async def run(self, coroutine: Coroutine[Any, Any, T]) -> T:
        """The coroutine's result. Raises what it raises (any `BaseException`), `DeadlinePassed`, `CancelledItself`,
        and `CancelledError` when the caller cancelled."""
        task = asyncio.current_task()
        assert task is not None
        self._task, self._base = task, task.cancelling()
        failure: BaseException | None = None
        result: T
        try:
            result = await self._steps(coroutine)
        except GeneratorExit:
            raise
        except BaseException as error:  # noqa: BLE001 - every way out is judged below
            failure = error
        finally:
            self._stop()
        if task.cancelling() > self._base:
            raise failure if isinstance(failure, asyncio.CancelledError) else asyncio.CancelledError() from failure
        if self._expired:
            raise DeadlinePassed from None
        if isinstance(failure, asyncio.CancelledError):
            raise CancelledItself("it waited for something that was cancelled") from failure
        if failure is not None:
            raise failure
        if time.monotonic() >= self._deadline.at:
            raise DeadlinePassed(blocked=True)
        return result

    def pause(self) -> None:
        """Time does not count until as many `resume`."""
        self._pauses += 1
        if self._pauses == 1:
            self._paused_at = time.monotonic()
            self._clear_timer()

    def resume(self) -> Deadline:
        """The deadline from now on: as much later as the pause was long."""
        self._pauses -= 1
        if self._pauses == 0:
            self._deadline = Deadline(self._deadline.at + time.monotonic() - self._paused_at)
        return self._deadline

    @types.coroutine
    def _steps(self, coroutine: Coroutine[Any, Any, T]) -> Generator[Any, Any, T]:
        task = self._task
        step: Callable[[Any], Any] = coroutine.send
        value: Any = None
        while True:
            cancelling = task.cancelling()
            try:
                waits_for = step(value)
            except StopIteration as end:
                yield from self._absorb(cancelling)
                return end.value  # type: ignore[no-any-return]
            except GeneratorExit as error:  # of its own: nobody closes it here
                raise CancelledItself("it raised GeneratorExit") from error
            except BaseException:
                yield from self._absorb(cancelling)
                raise
            self._recover()
            if task.cancelling() > cancelling:
                coroutine.close()
                yield from self._absorb(cancelling)
            if self._timer is None and self._pauses == 0:
                self._start_timer()
            try:
                value = yield waits_for
                step = coroutine.send
            except GeneratorExit:
                close(coroutine)
                raise
            except BaseException as error:
                if self._abandoned:
                    close(coroutine)
                    raise
                if isinstance(error, asyncio.CancelledError) and not self._expired:
                    self._start_grace()
                value, step = error, coroutine.throw

    def _absorb(self, cancelling: int) -> Generator[Any, Any, None]:
        """A cancellation that the coroutine asked for in its own step arrives at the next wait: take it there."""
        if self._task.cancelling() <= cancelling:
            return
        while self._task.cancelling() > cancelling:
            self._task.uncancel()
        with suppress(asyncio.CancelledError):
            yield
        raise CancelledItself("it cancelled the task it ran in")

    def _start_timer(self) -> None:
        self._timer = self._task.get_loop().call_later(self._deadline.remaining_seconds(), self._expire)

    def _expire(self) -> None:
        self._expired = True
        self._cancel()
        self._start_grace()

    def _recover(self) -> None:
        """The cancellation was the coroutine's own affair, and it has dealt with it: a time limit of its own
        (`asyncio.timeout`), or something it waited for that somebody had cancelled. It goes on until its deadline."""
        if self._in_grace and not self._expired and not self._abandoned and self._task.cancelling() <= self._base:
            self._clear_timer()

    def _start_grace(self) -> None:
        self._clear_timer()
        self._in_grace = True
        self._timer = self._task.get_loop().call_later(GRACE_SECONDS, self._abandon)

    def _abandon(self) -> None:
        self._abandoned = True
        self._cancel()

    def _cancel(self) -> None:
        self._cancels += 1
        self._task.cancel()

    def _stop(self) -> None:
        self._clear_timer()
        for _ in range(self._cancels):
            self._task.uncancel()
        self._cancels = 0

    def _clear_timer(self) -> None:
        self._in_grace = False
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None


def close(coroutine: Coroutine[Any, Any, Any]) -> None:
    """End it where it stands. What it does against that (waiting again, raising) is of no consequence any more."""
    with suppress(BaseException):
        coroutine.close()
