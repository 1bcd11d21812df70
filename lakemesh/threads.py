"""Blocking code in worker threads, of which there is never more than a known number."""

import asyncio
import threading
from collections.abc import Callable
from contextlib import suppress
from contextvars import copy_context
from typing import Any, TypeVar

T = TypeVar("T")


class Threads:
    """Runs blocking functions, at most `max_threads` at once under each name. A thread cannot be stopped: one whose
    caller has left goes on, and keeps its place until it ends, so that what hangs takes the places of its own name and
    nobody else's. The threads are daemons: none keeps the process from ending."""

    def __init__(self, max_threads: int) -> None:
        self._max_threads = max_threads
        self._places: dict[str, asyncio.Semaphore] = {}

    async def run(self, name: str, function: Callable[..., T], *arguments: Any) -> T:
        """The function's result; waits for a free place first. Who is cancelled leaves at once, and the thread ends by
        itself. Raises what the function raises."""
        places = self._places.get(name)
        if places is None:
            places = self._places[name] = asyncio.Semaphore(self._max_threads)
        await places.acquire()
        loop = asyncio.get_running_loop()
        ended: asyncio.Future[T] = loop.create_future()

        def end(result: Any, error: BaseException | None) -> None:
            places.release()
            if ended.done():
                return
            if error is None:
                ended.set_result(result)
            else:
                ended.set_exception(RuntimeError("it raised StopIteration") if is_stop(error) else error)

        def work() -> None:
            result: Any = None
            failure: BaseException | None = None
            try:
                result = context.run(function, *arguments)
            except BaseException as error:  # noqa: BLE001 - whatever it is, it belongs to who waits for the result
                failure = error
            with suppress(RuntimeError):  # the loop has ended meanwhile
                loop.call_soon_threadsafe(end, result, failure)

        context = copy_context()
        threading.Thread(target=work, name=f"lakemesh {name}", daemon=True).start()
        return await ended


def is_stop(error: BaseException) -> bool:
    return isinstance(error, StopIteration)
