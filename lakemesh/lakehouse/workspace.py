"""The one object through which everything outside the process is reached."""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from lakemesh.lakehouse.database import Database
from lakemesh.lakehouse.directory import Directory
from lakemesh.lakehouse.endpoints import ModelEndpoints
from lakemesh.lakehouse.functions import Functions
from lakemesh.lakehouse.genie import Genie
from lakemesh.lakehouse.indexes import Indexes
from lakemesh.lakehouse.jobs import Jobs
from lakemesh.lakehouse.pipelines import Pipelines
from lakemesh.lakehouse.secrets import Secrets
from lakemesh.lakehouse.tables import Tables
from lakemesh.lakehouse.volumes import Volumes
from lakemesh.lakehouse.warehouse import Warehouse
from lakemesh.lakehouse.workspace_files import GitFolders, WorkspaceFiles
from lakemesh.schemas import Identity


@dataclass(frozen=True, slots=True, kw_only=True)
class Workspace:
    """The ports of one build, made by `embedded.open_workspace` or `databricks.open_workspace`. `ping` answers
    quickly and raises `WorkspaceUnavailable` when the workspace cannot be reached.

    Ports that are None have no counterpart in the build. `bind` gives the same ports with a user's own rights;
    None where there is but one user."""

    name: str
    volumes: Volumes
    tables: Tables
    warehouse: Warehouse
    indexes: Indexes
    endpoints: ModelEndpoints
    ping: Callable[[], Awaitable[None]]
    close: Callable[[], Awaitable[None]]
    functions: Functions | None = None
    genie: Genie | None = None
    jobs: Jobs | None = None
    pipelines: Pipelines | None = None
    files: WorkspaceFiles | None = None
    git_folders: GitFolders | None = None
    secrets: Secrets | None = None
    directory: Directory | None = None
    database: Database | None = None
    bind: "Callable[[Identity], Awaitable[Workspace]] | None" = None

    @property
    def read_secret(self) -> Callable[[str, str], Awaitable[str]] | None:
        """By scope and key; None where there are no secrets."""
        return self.secrets.get if self.secrets else None

    async def on_behalf_of(self, identity: Identity) -> "Workspace":
        """The workspace as `identity` may see it; not to be closed by who asks. Raises `Unauthenticated` when the
        build needs the user's token and the identity carries none."""
        return self if self.bind is None else await self.bind(identity)
