"""Where memories are kept."""

import re

from lakemesh.lakehouse.indexes import IndexSpec
from lakemesh.lakehouse.tables import Column, TableSpec

INDEX_COLUMNS = {
    "memory_id": "string",
    "agent_id": "string",
    "session_id": "string",
    "user": "string",
    "text": "string",
    "metadata": "string",
    "embedding_model": "string",
    "created_at": "long",
}


def index_spec(name: str, dimension: int) -> IndexSpec:
    """The index: text, vector, and what reads filter by most. `created_at` is in milliseconds."""
    return IndexSpec(name=name, dimension=dimension, primary_key="memory_id", columns=INDEX_COLUMNS)


def index_of_model(name: str, model: str, dimension: int) -> str:
    """The index of another model than the one whose vectors `name` holds."""
    readable = re.sub(r"[^a-z0-9]+", "_", model.lower()).strip("_")[:100]
    return f"{name}_{readable}_{dimension}"


def memory_table(name: str) -> TableSpec:
    """The table: every memory with its metadata, without the vector."""
    columns = [
        Column("memory_id", "STRING"),
        Column("agent_id", "STRING"),
        Column("session_id", "STRING"),
        Column("user", "STRING"),
        Column("text", "STRING"),
        Column("metadata", "STRING", "a JSON object"),
        Column("embedding_model", "STRING", "the model in use when it was stored"),
        Column("created_at", "TIMESTAMP"),
    ]
    return TableSpec(name=name, columns=columns, comment="What agents remember", cluster_by=("agent_id", "created_at"))


def forgotten_table(name: str) -> TableSpec:
    """Ids of what was forgotten, beside the table `name`: so that a memory which another process still has in its
    journal does not come back with its delivery."""
    columns = [Column("memory_id", "STRING"), Column("forgotten_at", "TIMESTAMP")]
    return TableSpec(name=f"{name}_forgotten", columns=columns, comment="Ids of memories that were forgotten")
