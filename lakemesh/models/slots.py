"""An endpoint's slots, given out fairly: callers take turns, however much one of them asks for."""

import asyncio
from collections import OrderedDict, deque


class FairSlots:
    """At most `limit` slots are taken. Those who wait are served caller by caller in turn, and each caller's requests
    in the order they came, so that a thousand requests of one caller delay another's first by one turn."""

    def __init__(self, limit: int) -> None:
        self._free = limit
        self._waiting: OrderedDict[str, deque[asyncio.Future[None]]] = OrderedDict()

    async def acquire(self, caller: str) -> None:
        if self._free and not self._waiting:
            self._free -= 1
            return
        turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.setdefault(caller, deque()).append(turn)
        try:
            await turn
        except asyncio.CancelledError:
            if turn.cancelled():
                self._forget(caller, turn)
            else:
                self.release()  # the slot came as the caller left
            raise

    def release(self) -> None:
        """Hand the slot to the next caller in turn, or keep it free."""
        while self._waiting:
            caller, turns = self._waiting.popitem(last=False)
            turn = turns.popleft()
            if turns:
                self._waiting[caller] = turns
            if not turn.done():
                turn.set_result(None)
                return
        self._free += 1

    def _forget(self, caller: str, turn: asyncio.Future[None]) -> None:
        turns = self._waiting.get(caller)
        if turns is None or turn not in turns:
            return
        turns.remove(turn)
        if not turns:
            del self._waiting[caller]
