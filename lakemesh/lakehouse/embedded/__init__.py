"""The workspace of a laptop: a folder, delta-rs, DuckDB, numpy and an offline model."""

from lakemesh.lakehouse.embedded.workspace import open_workspace

__all__ = ["open_workspace"]
