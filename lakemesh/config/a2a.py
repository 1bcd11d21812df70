"""The A2A server."""

from pydantic import Field

from lakemesh.config.base import Section


class A2aConfig(Section):
    """The A2A server at `/a2a`. It needs the package's `a2a` extra and costs its imports, so it is asked for."""

    enabled: bool = False
    public_url: str | None = Field(default=None, description="what the agent card calls this server; else its Host")
    default_skill: str | None = Field(default=None, description="the agent of messages that name no skill")
    max_tasks: int = Field(default=10_000, ge=1, description="tasks kept, running ones included")
    task_ttl_seconds: float = Field(default=3_600.0, gt=0, description="how long an ended task can be read")
