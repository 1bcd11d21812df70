"""The one object through which everything outside the process is reached."""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from lakemesh.lakehouse.endpoints import ModelEndpoints
from lakemesh.lakehouse.indexes import Indexes
from lakemesh.lakehouse.tables import Tables
from lakemesh.lakehouse.volumes import Volumes
from lakemesh.lakehouse.warehouse import Warehouse


@dataclass(frozen=True, slots=True, kw_only=True)
class Workspace:
    """The ports of one build, made by `embedded.open_workspace` or `databricks.open_workspace`. `ping` answers
    quickly and raises `WorkspaceUnavailable` when the workspace cannot be reached."""

    name: str
    volumes: Volumes
    tables: Tables
    warehouse: Warehouse
    indexes: Indexes
    endpoints: ModelEndpoints
    ping: Callable[[], Awaitable[None]]
    close: Callable[[], Awaitable[None]]
