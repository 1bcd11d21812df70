"""Blocking SDK calls, made from the event loop: a bounded pool of threads, and a deadline for whoever waits."""

import asyncio
import copy
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

from lakemesh.deadline import Deadline
from lakemesh.errors import DeadlineExceeded, LakemeshError, Overloaded, Unauthenticated, WorkspaceUnavailable
from lakemesh.lakehouse.databricks.translation import translate

T = TypeVar("T")

WORKERS = 16
MAX_WAITING = 1_000
READ_ATTEMPTS = 3
RETRY_PAUSE_SECONDS = 0.2


class GaveUp(Exception):
    """The SDK wanted to wait for longer than its caller does; the context holds what it wanted to retry."""


class CredentialsRefused(WorkspaceUnavailable):
    """The application's own token was refused, a new one too: waiting does not help."""


class Patience:
    """How long one call may go on: until its deadline, or until nobody waits for it any more. Without `retries` it
    ends with the first answer, or without one."""

    def __init__(self, deadline: Deadline, *, retries: bool = True) -> None:
        self._deadline = deadline
        self._retries = retries
        self._left = threading.Event()

    def leave(self) -> None:
        self._left.set()

    @property
    def left(self) -> bool:
        return self._left.is_set()

    def sleep(self, seconds: float) -> None:
        if not self._retries or seconds >= self._deadline.remaining_seconds() or self._left.wait(seconds):
            raise GaveUp


class CallClock:
    """The SDK's clock (`databricks.sdk.clock.Clock`). The SDK sleeps between its retries, as long as the platform
    asked in `Retry-After`; here such a sleep ends when the call's own deadline makes it pointless."""

    def __init__(self) -> None:
        self._current = threading.local()

    def begin(self, patience: Patience) -> None:
        self._current.patience = patience

    def time(self) -> float:
        return time.monotonic()

    def sleep(self, seconds: float) -> None:
        patience: Patience | None = getattr(self._current, "patience", None)
        if patience is None:
            raise GaveUp  # a background refresh of the SDK's own; it asks again at its next call
        patience.sleep(seconds)


class SdkCalls:
    """`run` is the only way from a port to an SDK. `abandoned` counts calls whose caller left before they ended:
    each of them holds its thread until the SDK's own HTTP time limit."""

    def __init__(self) -> None:
        self.clock = CallClock()
        self.abandoned = 0
        self._threads = ThreadPoolExecutor(WORKERS, thread_name_prefix="databricks")
        self._slots = asyncio.Semaphore(WORKERS)
        self._waiting = 0
        self._on_behalf_of_user = False
        self._renew: Callable[[], None] | None = None
        self._renewed_at = 0.0
        self._renewing = threading.Lock()

    async def run(
        self,
        call: Callable[[], T],
        *,
        deadline: Deadline,
        repeatable: bool = False,
        retries: bool = True,
        when_late: Callable[[T], None] | None = None,
    ) -> T:
        """The result of `call`, run in a thread. A `repeatable` call (one that only reads) is made again when its
        answer was lost on the way; without `retries` not even the SDK makes it again. `when_late` gets, in the
        thread, a result nobody waits for any more.

        Raises what `translate` makes of the SDK's error, `DeadlineExceeded`, and `Overloaded` when `MAX_WAITING`
        calls wait for a thread.
        """
        if self._waiting >= MAX_WAITING:
            raise Overloaded("Too many calls to the workspace wait for their turn.", retry_after_seconds=1)
        patience = Patience(deadline, retries=retries)
        attempts = READ_ATTEMPTS if repeatable else 1
        try:
            async with deadline.timeout():
                await self._take_slot()
                loop = asyncio.get_running_loop()
                work = loop.run_in_executor(self._threads, self._call, call, patience, attempts, when_late)
                work.add_done_callback(self._give_back_slot)
                return await asyncio.shield(work)
        except TimeoutError:
            self.abandoned += 1
            raise DeadlineExceeded("The workspace did not answer in time.") from None
        finally:
            patience.leave()

    def for_user(self) -> "SdkCalls":
        """Calls with a user's own credentials, on the same threads."""
        calls = copy.copy(self)
        calls._on_behalf_of_user = True
        calls._renew = None
        return calls

    def renew_with(self, renew: Callable[[], None]) -> None:
        """How the application gets a new token when the workspace refuses the one it has."""
        self._renew = renew

    def designed(self, error: Exception) -> Exception:
        """`error` translated. That the application's own credentials are refused is not the caller's fault."""
        known = translate(error)
        if isinstance(known, Unauthenticated) and not self._on_behalf_of_user:
            return CredentialsRefused("The workspace refuses the application's credentials.")
        return known

    def close(self) -> None:
        self._threads.shutdown(wait=False, cancel_futures=True)

    async def _take_slot(self) -> None:
        self._waiting += 1
        try:
            await self._slots.acquire()
        finally:
            self._waiting -= 1

    def _give_back_slot(self, work: "asyncio.Future[T]") -> None:
        self._slots.release()
        if not work.cancelled():
            work.exception()  # seen, even when the caller has left

    def _call(
        self, call: Callable[[], T], patience: Patience, attempts: int, when_late: Callable[[T], None] | None
    ) -> T:
        """In the thread. Nothing but a `LakemeshError` or a bug comes out, never the SDK's `TimeoutError`."""
        self.clock.begin(patience)
        for attempt in range(1, attempts + 1):
            try:
                result = self._with_fresh_token(call)
                break
            except GaveUp as error:
                raise self._last_error(error) from error
            except Exception as error:
                known = self.designed(error)
                if attempt == attempts or type(known) is not WorkspaceUnavailable or not self._wait(patience, attempt):
                    raise known from error
        if when_late is not None and patience.left:
            when_late(result)
        return result

    def _with_fresh_token(self, call: Callable[[], T]) -> T:
        """A refused token may have been withdrawn before its time: one new one is fetched, by the first call that
        meets the refusal, and each call is made once more. Nothing that was refused had an effect."""
        started = time.monotonic()
        try:
            return call()
        except Exception as error:
            if self._renew is None or not isinstance(self.designed(error), CredentialsRefused):
                raise
            self.renew_token(started)
            return call()

    def renew_token(self, known_since: float) -> None:
        """In a thread: a new token, unless one was fetched after `known_since` (of the monotonic clock)."""
        with self._renewing:
            if self._renew is not None and self._renewed_at <= known_since:
                self._renew()
                self._renewed_at = time.monotonic()

    def _wait(self, patience: Patience, attempt: int) -> bool:
        try:
            patience.sleep(RETRY_PAUSE_SECONDS * attempt)
        except GaveUp:
            return False
        return True

    def _last_error(self, gave_up: GaveUp) -> Exception:
        cause = gave_up.__context__
        known = self.designed(cause) if isinstance(cause, Exception) else None
        return known if isinstance(known, LakemeshError) else DeadlineExceeded("The workspace did not answer in time.")
