"""What there is to say of any server elsewhere whose agents or tools join ours."""

from pydantic import Field

from lakemesh.config.agents import Door
from lakemesh.config.base import Section

URL = r"^https?://[^/?#@]+(/[^?#]*)?$"


class RemoteServerConfig(Section):
    """What it is sent goes to the origin of `url` and nowhere else."""

    token: str | None = Field(default=None, repr=False, description="sent as a bearer token")
    timeout_seconds: float = Field(default=30.0, gt=0, le=3600, description="one call, unless the caller waits less")
    expose: list[Door] = Field(default=["api"], description="doors its agents or tools are offered through")
    allowed_groups: list[str] | None = None
    refresh_seconds: float = Field(default=300.0, gt=0, description="how often it is asked what it offers")
    breaker_failures: int = Field(default=3, ge=1, description="failures in a row after which it is left alone")
    breaker_reset_seconds: float = Field(default=15.0, gt=0, description="how long it is left alone")
