"""A circuit breaker: what keeps failing is left alone for a while, then tried once."""

import time
from typing import Literal

State = Literal["closed", "open", "half_open"]


class CircuitBreaker:
    """Opens after `failures` in a row. After `reset_seconds` it lets one trial through (half-open): its success
    closes the circuit, its failure opens it anew."""

    def __init__(self, *, failures: int, reset_seconds: float) -> None:
        self._limit = failures
        self._reset_seconds = reset_seconds
        self._failures = 0
        self._opened_at = 0.0
        self._trial_running = False

    @property
    def state(self) -> State:
        if self._failures < self._limit:
            return "closed"
        return "half_open" if time.monotonic() - self._opened_at >= self._reset_seconds else "open"

    def allows(self) -> bool:
        """Whether a call may go through now. A call that was let through ends with `succeeded`, `failed` or
        `abandoned`."""
        state = self.state
        if state == "half_open" and not self._trial_running:
            self._trial_running = True
            return True
        return state == "closed"

    def succeeded(self) -> None:
        self._failures = 0
        self._trial_running = False

    def failed(self) -> None:
        self._failures += 1
        self._trial_running = False
        if self._failures >= self._limit:
            self._opened_at = time.monotonic()

    def abandoned(self) -> None:
        """The call ended without telling anything of the other side: it was cancelled here."""
        self._trial_running = False
