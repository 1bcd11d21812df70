"""Delta tables through the workspace, exactly once: delta-rs on the embedded build, a staged file and COPY INTO
through the SQL warehouse on Databricks.

Through the workspace's port and not past it to delta-rs: the port is the one writer of a table in this process, so
that maintenance and telemetry do not conflict, and it is the same on every build.
"""

from lakemesh.config.telemetry import TelemetryConfig
from lakemesh.errors import InvalidRequest, NotFound, PayloadTooLarge, WorkspaceUnavailable
from lakemesh.lakehouse.tables import AppTransaction
from lakemesh.lakehouse.workspace import Workspace
from lakemesh.telemetry.sinks.base import Parcel, Refused
from lakemesh.telemetry.tables import Kind, add_missing_columns, make_table


class DeltaSink:
    name = "delta"
    group_records = 10_000  # a commit costs as much as the rows of a batch: 17 times the throughput of one batch each

    def __init__(self, workspace: Workspace, config: TelemetryConfig) -> None:
        self._workspace = workspace
        self._config = config

    async def open(self, kind: Kind) -> None:
        await make_table(self._workspace, self._config, kind)

    async def applied_version(self, target: str, app_id: str) -> int | None:
        return await self._workspace.tables.applied_version(target, app_id)

    async def deliver(self, parcel: Parcel) -> None:
        transaction = AppTransaction(parcel.app_id, parcel.version)
        try:
            await self._workspace.tables.append(parcel.target, parcel.rows, transaction=transaction)
        except NotFound:
            await self.open(parcel.kind)
            raise WorkspaceUnavailable(f"The table {parcel.target} was gone and has been made anew.") from None
        except (InvalidRequest, PayloadTooLarge) as error:
            # Rows of a newer release may wait in the spool: their columns are no reason to refuse them.
            if await add_missing_columns(self._workspace, parcel.target, parcel.rows.schema):
                raise WorkspaceUnavailable(f"The table {parcel.target} lacked columns, which it has now.") from None
            raise Refused(error.detail) from error

    async def close(self) -> None:
        """The workspace is closed by who opened it."""
