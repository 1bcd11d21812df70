"""Work for a caller who may leave before it is done."""

import asyncio
import types
from collections.abc import Coroutine, Generator
from typing import Any, TypeVar

from starlette.types import Receive

from lakemesh.errors import Cancelled, ShuttingDown
from lakemesh.event_stream import left

T = TypeVar("T")


class Attended:
    """Awaits a coroutine for the client behind `receive`, and cancels it when that client leaves. The client is watched
    only once the coroutine has to wait for something: work that needs no waiting costs no watching."""

    __slots__ = ("_left", "_receive", "_task", "_watching")

    def __init__(self, receive: Receive) -> None:
        self._receive = receive
        self._task: asyncio.Task[Any] | None = None
        self._watching: asyncio.Task[None] | None = None
        self._left = False

    async def run(self, coroutine: Coroutine[Any, Any, T]) -> T:
        """The coroutine's result. Raises what it raises; `Cancelled` when the client left."""
        try:
            return await self._steps(coroutine)
        except asyncio.CancelledError:
            if self._task is None:
                raise
            if self._task.uncancel() == 0 and self._left:
                raise Cancelled("The caller left before the answer was there.") from None
            # The caller is there, so it is the server that ends the request: its time to drain is over.
            raise ShuttingDown("The server went down before the answer was there.", retry_after_seconds=1.0) from None
        finally:
            if self._watching is not None:
                self._watching.cancel()

    @types.coroutine
    def _steps(self, coroutine: Coroutine[Any, Any, T]) -> Generator[Any, Any, T]:
        try:
            waits_for = coroutine.send(None)
            self._task = asyncio.current_task()
            self._watching = asyncio.ensure_future(self._watch())
            while True:
                try:
                    value = yield waits_for
                except GeneratorExit:
                    coroutine.close()
                    raise
                except BaseException as error:  # noqa: BLE001 - handed on to the coroutine, whatever it is
                    waits_for = coroutine.throw(error)
                else:
                    waits_for = coroutine.send(value)
        except StopIteration as end:
            return end.value  # type: ignore[no-any-return]

    async def _watch(self) -> None:
        await left(self._receive)
        self._left = True
        if self._task is not None:
            self._task.cancel()
