"""Where records wait in memory: bounded, and every drop counted with its reason."""

from collections import Counter, deque
from collections.abc import Callable
from itertools import islice
from typing import Any


class Buffer:
    """Records by kind. `put` is what the request path pays: an append and a comparison.

    Appending to and popping from a deque are atomic, so `put` may be called from any thread while one reader takes.
    """

    def __init__(self, kinds: tuple[str, ...], *, size: int, batch_size: int, on_batch: Callable[[], None]) -> None:
        self._waiting: dict[str, deque[Any]] = {kind: deque() for kind in kinds}
        self._size = size
        self._batch_size = batch_size
        self._on_batch = on_batch
        self.dropped: Counter[str] = Counter()

    def __len__(self) -> int:
        return sum(map(len, self._waiting.values()))

    def put(self, kind: str, record: Any) -> None:
        """Keep the record, or count it as dropped when its kind is full."""
        waiting = self._waiting[kind]
        count = len(waiting)
        if count >= self._size:
            self.dropped["buffer_full"] += 1
            return
        waiting.append(record)
        if (count + 1) % self._batch_size == 0:
            self._on_batch()

    def take(self, kind: str) -> list[Any]:
        """Up to one batch of the oldest records."""
        waiting = self._waiting[kind]
        count = min(len(waiting), self._batch_size)
        batch = list(islice(waiting, count))
        for _ in range(count):
            waiting.popleft()
        return batch
