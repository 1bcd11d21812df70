"""A memory as a server has it, with vectors made of words."""

from collections.abc import Sequence
from pathlib import Path

from opentelemetry.trace import NoOpTracerProvider

from lakemesh.config.memory import MemoryConfig
from lakemesh.lakehouse.embedded.hashed_embedding import embed_text
from lakemesh.lakehouse.workspace import Workspace
from lakemesh.memory import Memory
from lakemesh.models import Embedded


async def embed(texts: Sequence[str], *, model: str | None = None) -> Embedded:
    return Embedded(vectors=[embed_text(text, 64) for text in texts], model=model or "hashed")


def open_memory(workspace: Workspace, folder: Path) -> Memory:
    return Memory(
        MemoryConfig(flush_seconds=0.02),
        workspace=workspace,
        embed=embed,
        dimension=64,
        embedding_model="hashed",
        folder=folder,
        tracer=NoOpTracerProvider().get_tracer("chaos"),
    )
