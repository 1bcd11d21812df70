"""The system's allocator (glibc), which keeps what bursts have needed unless it is told otherwise: mallopt(3),
malloc_trim(3). Where there is another one, nothing happens."""

import ctypes
import os
from contextlib import suppress
from functools import lru_cache
from typing import Any

M_ARENA_MAX = -8
ARENAS = 2


def keep_few_arenas() -> None:
    """For a process with many threads, of which nearly each would get an arena. To be called before they begin."""
    if "MALLOC_ARENA_MAX" not in os.environ:
        with suppress(AttributeError):
            library().mallopt(M_ARENA_MAX, ARENAS)


def give_back() -> None:
    """What is free goes back to the system: some milliseconds, in which other threads run. After large work only."""
    with suppress(AttributeError):
        library().malloc_trim(0)


@lru_cache(maxsize=1)
def library() -> Any:
    return ctypes.CDLL(None)
