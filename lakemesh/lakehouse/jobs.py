"""Jobs of the workspace: started and waited for."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal, Protocol


@dataclass(frozen=True, slots=True, kw_only=True)
class JobRun:
    """`state` is the run's life cycle, `result` how it ended (None while it goes on)."""

    run_id: int
    state: Literal["waiting", "running", "ended"]
    result: str | None = None
    message: str | None = None
    url: str | None = None

    @property
    def succeeded(self) -> bool:
        return self.result == "SUCCESS"


class Jobs(Protocol):
    """An unknown job or run raises `NotFound`."""

    async def run_now(
        self, job_id: int, *, parameters: Mapping[str, str] | None = None, idempotency_token: str | None = None
    ) -> int:
        """Start the job; the run's id. The same token starts it once."""
        ...

    async def status(self, run_id: int) -> JobRun: ...

    async def wait(self, run_id: int, *, timeout_seconds: float) -> JobRun:
        """The run when it has ended, well or not. Raises `DeadlineExceeded`."""
        ...
