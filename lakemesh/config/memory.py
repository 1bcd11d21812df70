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


class FactsConfig(Section):
    """What is known of users beyond sessions; kept where `LAKEMESH_DATABASE` is."""

    learn: bool = Field(default=True, description="find facts in the turns of agents that remember their users")
    route: str = Field(default="fast", description="the model that finds them; without it plain phrases are")
    search: Literal["pgvector", "index"] = Field(default="pgvector", description="where their vectors are")
    index: str = Field(default="main.agents.facts_index", description="for `search: index`")
    half_life_days: float = Field(default=180.0, gt=0, description="unconfirmed facts are half as sure after these")
    min_confidence: float = Field(default=0.2, ge=0, le=1, description="less sure ones are not recalled")
    forget_below: float = Field(default=0.05, ge=0, le=1, description="less sure ones are forgotten")
    past_days: int = Field(default=90, ge=0, description="facts that hold no longer are kept for so long")


class ConsolidationConfig(Section):
    """What one replica at a time does to memories beside the requests."""

    every_seconds: float = Field(default=300.0, gt=0)
    route: str = Field(default="fast", description="the model that summarises; without it sentences are picked")
    summarise_after_days: float = Field(default=30.0, gt=0, description="older episodes are summarised")
    summarise_above: int = Field(default=20, ge=2, description="when a user has so many of them with one agent")


class MemoryConfig(Section):
    table: str = "main.agents.memory"
    index: str = "main.agents.memory_index"
    embedding_route: str = "embeddings"
    flush_seconds: float = Field(default=0.5, gt=0, description="acknowledged memories are in Delta after this long")
    spool_megabytes: int = Field(default=256, ge=1, description="acknowledged, not in Delta yet; more are refused")
    spool_sync: Literal["full", "normal", "off"] = Field(
        default="full", description="`full` survives a power cut, `normal` a crash of the process, `off` neither"
    )
    facts: FactsConfig = FactsConfig()
    consolidation: ConsolidationConfig = ConsolidationConfig()
    shared_agents: list[str] = Field(default=[], description="agents whose memories all users' requests may find")
    retention: list[RetentionRule] = Field(default=[], description="without a rule memories are kept for ever")
    maintenance_hours: float = Field(default=24.0, gt=0, description="how often retention, reconciling and vacuum run")
    vacuum_hours: float = Field(default=168.0, ge=0, description="forgotten bytes stay in old files for this long")
