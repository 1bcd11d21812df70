"""A lock between processes of one machine."""

import fcntl
import os
import random
import time
from contextlib import suppress
from pathlib import Path

FIRST_PAUSE_SECONDS = 0.001
LONGEST_PAUSE_SECONDS = 0.05


class FileLock:
    """flock(2) on a file of its own, which stays when the lock goes. The kernel gives the lock back with the process,
    however that ends. Two of these in one process exclude each other as two processes do. Not reentrant; its methods
    block, so call them from a worker thread. All of them raise `OSError` where the file cannot be made."""

    def __init__(self, file: Path) -> None:
        self.file = file
        self._descriptor: int | None = None

    @property
    def held(self) -> bool:
        return self._descriptor is not None

    def try_acquire(self, *, shared: bool = False) -> bool:
        """Take the lock if nobody has it; `shared`, if nobody has it for itself alone."""
        self.file.parent.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(self.file, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(descriptor, (fcntl.LOCK_SH if shared else fcntl.LOCK_EX) | fcntl.LOCK_NB)
        except BaseException as error:
            os.close(descriptor)
            if isinstance(error, BlockingIOError):
                return False
            raise
        self._descriptor = descriptor
        return True

    def acquire(self, timeout_seconds: float, *, shared: bool = False) -> None:
        """Wait for the lock. Raises `TimeoutError`. flock has no time limit of its own, hence the growing pauses."""
        deadline = time.monotonic() + timeout_seconds
        pause = FIRST_PAUSE_SECONDS
        while not self.try_acquire(shared=shared):
            if time.monotonic() >= deadline:
                raise TimeoutError(f"Another process has held {self.file.name} for {timeout_seconds:.0f} s.")
            time.sleep(pause * random.uniform(0.5, 1.0))  # noqa: S311 (jitter)
            pause = min(pause * 2, LONGEST_PAUSE_SECONDS)

    def release(self) -> None:
        """Give the lock back. Unlocked before it is closed: a child forked meanwhile has the descriptor too."""
        if self._descriptor is not None:
            with suppress(OSError):
                fcntl.flock(self._descriptor, fcntl.LOCK_UN)
            os.close(self._descriptor)
            self._descriptor = None
