"""Where records wait in memory: bounded, and every drop counted with its reason."""

import time
from collections import Counter, deque
from collections.abc import Callable, Sequence
from typing import Any


class Buffer:
    """Records by kind. `put` is what the request path pays: an append and two comparisons.

    Appending to and popping from a deque are atomic, so `put` may be called from any thread while one reader takes.
    """

    def __init__(
        self,
        kinds: Sequence[str],
        *,
        size: int,
        batch_size: int,
        on_first: Callable[[], None],
        on_batch: Callable[[], None],
    ) -> None:
        self._waiting: dict[str, deque[Any]] = {kind: deque() for kind in kinds}
        self._size = size
        self._batch_size = batch_size
        self._on_first = on_first
        self._on_batch = on_batch
        self._dropped_at: dict[str, float] = {}
        self._closed_because: str | None = None
        self.dropped: Counter[str] = Counter()

    def __len__(self) -> int:
        return sum(map(len, self._waiting.values()))

    def put(self, kind: str, record: Any) -> None:
        """Keep the record, or count it as dropped when its kind is full or nobody reads any more."""
        waiting = self._waiting[kind]
        count = len(waiting)
        if count >= self._size:
            self.drop(self._closed_because or "buffer_full", 1)
            return
        waiting.append(record)
        if count == 0:
            self._on_first()
        if (count + 1) % self._batch_size == 0:
            self._on_batch()

    def is_nearly_full(self, kind: str) -> bool:
        return len(self._waiting[kind]) > self._size // 2

    def drop(self, reason: str, count: int) -> None:
        """Records were lost."""
        self.dropped[reason] += count
        self._dropped_at[reason] = time.monotonic()

    def dropped_within(self, seconds: float) -> dict[str, int]:
        """The counts of the reasons for which records were lost lately."""
        since = time.monotonic() - seconds
        return {reason: self.dropped[reason] for reason, at in self._dropped_at.items() if at >= since}

    def batches(self, kind: str) -> int:
        """How many batches wait, the last of which may be a part of one."""
        return -(-len(self._waiting[kind]) // self._batch_size)

    def take(self, kind: str) -> list[Any]:
        """Up to one batch of the oldest records."""
        waiting = self._waiting[kind]
        return [waiting.popleft() for _ in range(min(len(waiting), self._batch_size))]

    def restore(self, kind: str, records: Sequence[Any]) -> None:
        """Put back what was taken and could not be kept elsewhere; it is the oldest again."""
        self._waiting[kind].extendleft(reversed(records))

    def close(self, reason: str) -> None:
        """Take nothing more; what comes, and what is still here, is dropped for `reason`."""
        self._closed_because = reason
        self._size = 0
        if len(self):
            self.drop(reason, len(self))
        for waiting in self._waiting.values():
            waiting.clear()
