"""Durable invocations' section of the configuration."""

from pydantic import Field

from lakemesh.config.base import Section


class InvocationsConfig(Section):
    """Runs kept in PostgreSQL (`LAKEMESH_DATABASE`). Counts hold over all replicas, unless they say otherwise."""

    default_agent: str | None = Field(default=None, description="who answers a request that names no agent")
    max_running: int = Field(default=32, ge=1, description="runs that one process works on at a time")
    max_running_per_user: int = Field(default=16, ge=1, description="of one user's queued runs")
    max_queued_per_user: int = Field(default=20_000, ge=1)
    max_attempts: int = Field(default=3, ge=1, description="after these a background run is a dead letter")
    retry_seconds: float = Field(default=1.0, gt=0, description="before the second attempt; doubled for each later one")
    lease_seconds: float = Field(default=10.0, ge=1, description="a worker not heard of for so long has lost its runs")
    park_seconds: float = Field(
        default=30.0, gt=0, description="of waiting for an answer, after which a run leaves memory"
    )
    retention_days: int = Field(default=30, ge=1, description="how long runs that ended are kept")
