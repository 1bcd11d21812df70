"""Agent memory."""

from pydantic import Field

from lakemesh.config.base import Section


class MemoryConfig(Section):
    table: str = "main.agents.memory"
    index: str = "main.agents.memory_index"
    embedding_route: str = "embeddings"
    buffer_size: int = Field(default=10_000, ge=1, description="memories waiting to be written")
    flush_seconds: float = Field(default=2.0, gt=0)
