"""Agents that are run by the clock."""

from typing import Any

from pydantic import Field

from lakemesh.config.base import Section


class ScheduleConfig(Section):
    """An agent that is run again and again, by the service principal `schedule:NAME`, once over all replicas."""

    agent: str = Field(description="who is run, at the door api")
    every_minutes: int = Field(ge=1, le=10_080, description="begun when the minutes since 1970 are a multiple of it")
    input: dict[str, Any] = Field(default={}, description="what the agent takes")
    enabled: bool = True
