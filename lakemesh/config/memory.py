"""Agent memory."""

from collections.abc import Mapping
from typing import Literal

from pydantic import Field

from lakemesh.config.base import Section


class RetentionRule(Section):
    """How long memories are kept: of one agent, with some metadata, or of all."""

    days: float = Field(gt=0, description="older ones are forgotten")
    agent_id: str | None = Field(default=None, description="only what this agent remembers")
    metadata: Mapping[str, str] = Field(default={}, description="only those with these values, such as kind: note")


class MemoryConfig(Section):
    table: str = "main.agents.memory"
    index: str = "main.agents.memory_index"
    embedding_route: str = "embeddings"
    flush_seconds: float = Field(default=0.5, gt=0, description="acknowledged memories are in Delta after this long")
    spool_megabytes: int = Field(default=256, ge=1, description="acknowledged, not in Delta yet; more are refused")
    spool_sync: Literal["full", "normal", "off"] = Field(
        default="full", description="`full` survives a power cut, `normal` a crash of the process, `off` neither"
    )
    shared_agents: list[str] = Field(default=[], description="agents whose memories all users' requests may find")
    retention: list[RetentionRule] = Field(default=[], description="without a rule memories are kept for ever")
    maintenance_hours: float = Field(default=24.0, gt=0, description="how often retention, reconciling and vacuum run")
    vacuum_hours: float = Field(default=168.0, ge=0, description="forgotten bytes stay in old files for this long")
