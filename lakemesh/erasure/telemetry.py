"""A user's rows in the telemetry tables: what was asked and answered, where content is captured, and the traces."""

import re
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping

from lakemesh.config.telemetry import TelemetryConfig
from lakemesh.errors import LakemeshError, NotFound, Unavailable
from lakemesh.lakehouse.workspace import Workspace
from lakemesh.telemetry.tables import Kind, table_specs

PAGE = 2_000
ID = re.compile(r"[A-Za-z0-9_-]{1,64}")

# A trace that somebody else's execution is in too is not the user's alone: of it go the spans that name the user.
TRACES = """
(SELECT trace_id FROM {executions} WHERE user_id = :user
 EXCEPT SELECT trace_id FROM {executions} WHERE user_id <> :user)
"""
NAMED = "attributes:`user.id`::string = :user"
WHERE: Mapping[Kind, str] = {
    "spans": f"trace_id IN {TRACES} OR {NAMED}",
    "logs": f"trace_id IN {TRACES}",
    "feedback": "user_id = :user OR execution_id IN (SELECT execution_id FROM {executions} WHERE user_id = :user)",
    "models": "user_id = :user",
    "executions": "user_id = :user",
    "audit_keys": "user_id = :user",
}
"""Rows of each kind that are the user's, in the order they are removed: the first ones are found by the last."""
KEYS: Mapping[Kind, str] = {"executions": "execution_id"}


class TelemetryPlace:
    """`flush` brings what this server has recorded into the tables."""

    def __init__(self, config: TelemetryConfig, *, workspace: Workspace, flush: Callable[[], Awaitable[bool]]) -> None:
        self._workspace = workspace
        self._flush = flush
        self._tables = {kind: spec.name for kind, spec in table_specs(config).items()}

    async def settle(self) -> None:
        if not await self._flush():
            raise Unavailable("Telemetry waits that the workspace does not take; erase the user when it does.")

    async def count(self, user: str) -> Mapping[str, int]:
        return {f"telemetry: {self._tables[kind]}": await self._count(kind, user) for kind in WHERE}

    async def erase(self, user: str) -> None:
        for kind in WHERE:
            key = KEYS.get(kind, "record_id")
            async for ids in self._ids(kind, user, key):
                listed = ", ".join(f"'{one}'" for one in ids)
                await self._workspace.tables.delete_rows(self._tables[kind], f"{key} IN ({listed})")

    async def purge(self) -> Mapping[str, str]:
        notes = {}
        for kind in WHERE:
            try:
                await self._workspace.tables.vacuum(self._tables[kind], retention_hours=0)
            except NotFound:
                continue
            except LakemeshError as error:
                notes[f"telemetry: {self._tables[kind]}"] = (
                    f"the bytes leave the storage with the vacuum: {error.detail}"
                )
        return notes

    async def _count(self, kind: Kind, user: str) -> int:
        try:
            found = await self._workspace.warehouse.query(self._statement(kind, "count(*)"), {"user": user})
        except NotFound:
            return 0
        return int(found.rows[0][0])

    async def _ids(self, kind: Kind, user: str, key: str) -> AsyncIterator[list[str]]:
        while True:
            try:
                found = await self._workspace.warehouse.query(
                    f"{self._statement(kind, key)} LIMIT {PAGE}", {"user": user}, row_limit=PAGE
                )
            except NotFound:
                return
            ids = [str(row[0]) for row in found.rows if ID.fullmatch(str(row[0]))]
            if not ids:
                return
            yield ids

    def _statement(self, kind: Kind, what: str) -> str:
        where = WHERE[kind].replace("{executions}", self._tables["executions"])
        return f"SELECT {what} FROM {self._tables[kind]} WHERE {where}"  # noqa: S608
