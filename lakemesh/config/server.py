"""The server as its network sees it."""

from typing import Annotated

from pydantic import Field, StringConstraints

from lakemesh.config.base import Section

Origin = Annotated[str, StringConstraints(pattern=r"^https?://[a-z0-9.\-\[\]:_]+$")]
HostName = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9_.-]+$")]


class CorsConfig(Section):
    """Pages of other origins that may call the server from a browser. Credentials are bearer tokens; cookies are
    not used."""

    allowed_origins: list[Origin] = Field(default=[], description="such as https://app.example.com, without a path")
    max_age_seconds: int = Field(default=600, ge=0, description="how long a browser keeps the answer to a preflight")


class ServerConfig(Section):
    """What holds at every door."""

    public_url: str | None = Field(
        default=None, pattern=r"^https?://[^/?#@]+(/[^?#]*)?$", description="where callers reach it; else its Host"
    )
    allowed_hosts: list[HostName] = Field(
        default=[],
        description="names it answers to, besides loopback ones, addresses and that of public_url; else any, and "
        "loopback ones alone while nobody authenticates",
    )
    cors: CorsConfig = CorsConfig()
    header_seconds: float = Field(default=15.0, gt=0, description="in which the head of a request must have arrived")
    body_seconds: float = Field(default=60.0, gt=0, description="in which its body must have")
    idle_seconds: float = Field(default=60.0, gt=0, description="how long a connection is kept between requests")
    max_header_bytes: int = Field(default=65_536, ge=1_024)
    max_connections: int = Field(default=4_096, ge=1, description="open at once; more are closed with 503")
    operators: list[str] = Field(default=[], description="users who see the parts of /health/ready and /metrics")
    operator_groups: list[str] = Field(default=[], description="groups whose members see them too")
    trace_callers: list[str] = Field(
        default=[], description="users whose traceparent is continued; a trace of others is linked to"
    )
