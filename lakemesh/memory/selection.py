"""Which memories: by whom, of which agent and session, with which metadata; and the table asked for them."""

import json
import re
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from lakemesh.errors import InvalidRequest
from lakemesh.lakehouse.warehouse import QueryResult
from lakemesh.lakehouse.workspace import Workspace
from lakemesh.memory.records import MemoryRecord

SAFE_KEY = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
MEMORY_ID = re.compile(r"[A-Za-z0-9]{1,64}")
PAGE = 5_000
IDS_AT_ONCE = 500


@dataclass(frozen=True, slots=True, kw_only=True)
class Selection:
    """All that is given must hold. `metadata` compares values of the top level."""

    user: str | None = None
    agent_ids: Sequence[str] | None = None
    session_ids: Sequence[str] | None = None
    memory_ids: Sequence[str] | None = None
    metadata: Mapping[str, Any] = field(default_factory=dict)
    created_before: datetime | None = None

    def has(self, record: MemoryRecord) -> bool:
        wanted = (
            (self.agent_ids, record.agent_id),
            (self.session_ids, record.session_id),
            (self.memory_ids, record.memory_id),
            ([self.user] if self.user is not None else None, record.user),
        )
        before = self.created_before
        return (
            all(allowed is None or value in allowed for allowed, value in wanted)
            and (before is None or record.created_at < before.timestamp() * 1_000_000)
            and has_metadata(json.loads(record.metadata), self.metadata)
        )

    def conditions(self) -> tuple[list[str], dict[str, Any]]:
        """SQL conditions and their parameters, right on Spark and on the embedded warehouse. They may let pass what
        `has_metadata` refuses, never the other way round."""
        conditions: list[str] = []
        parameters: dict[str, Any] = {}
        listed = {"agent_id": self.agent_ids, "session_id": self.session_ids, "memory_id": self.memory_ids}
        listed["user"] = [self.user] if self.user is not None else None
        for column, values in listed.items():
            if values is not None:
                names = [f"{column}_{place}" for place in range(len(values))]
                parameters |= dict(zip(names, values, strict=True))
                markers = ", ".join(f":{name}" for name in names) or "NULL"
                conditions.append(f"`{column}` IN ({markers})")
        for place, (key, value) in enumerate(pushed(self.metadata).items()):
            conditions.append(f"get_json_object(metadata, :path_{place}) = :value_{place}")
            parameters |= {f"path_{place}": f"$.{key}", f"value_{place}": as_text(value)}
        if self.created_before is not None:
            conditions.append("created_at < :created_before")
            parameters["created_before"] = self.created_before
        return conditions, parameters


def pushed(metadata: Mapping[str, Any]) -> dict[str, Any]:
    """Those the warehouse can compare: a key that needs no quotes in a JSON path, since Spark and DuckDB quote
    differently, and a value whose JSON text has one form."""
    return {
        key: value
        for key, value in metadata.items()
        if SAFE_KEY.fullmatch(key) and isinstance(value, str | int) and value != ""
    }


def has_metadata(metadata: Mapping[str, Any], wanted: Mapping[str, Any]) -> bool:
    return all(key in metadata and as_text(metadata[key]) == as_text(value) for key, value in wanted.items())


def as_text(value: Any) -> str:
    """A value as `get_json_object` gives it."""
    return value if isinstance(value, str) else json.dumps(value)


def checked_ids(memory_ids: Sequence[str]) -> list[str]:
    """Raises `InvalidRequest` for what is no memory id."""
    if not all(MEMORY_ID.fullmatch(memory_id) for memory_id in memory_ids):
        raise InvalidRequest("A memory id is letters and digits, as remember() gave it.")
    return list(dict.fromkeys(memory_ids))


class MemoryTable:
    """Delta's memories, asked by selection. All raise `WorkspaceUnavailable` when the warehouse does not answer."""

    def __init__(self, workspace: Workspace, name: str) -> None:
        self._workspace = workspace
        self._name = name

    async def newest(
        self, selection: Selection, *, limit: int, after: tuple[datetime, str] | None = None
    ) -> list[MemoryRecord]:
        """The newest first; `after` is the time and the id of the last one seen. Of those with metadata that cannot be
        compared in SQL there may be fewer than `limit`, and more to come."""
        conditions, parameters = selection.conditions()
        if after is not None:
            conditions.append("(created_at < :after_at OR (created_at = :after_at AND memory_id > :after_id))")
            parameters |= {"after_at": after[0], "after_id": after[1]}
        return [MemoryRecord.from_table_row(row) for row in await self._rows("*", conditions, parameters, limit)]

    async def records(self, memory_ids: Sequence[str]) -> list[MemoryRecord]:
        found: list[MemoryRecord] = []
        for start in range(0, len(memory_ids), IDS_AT_ONCE):
            conditions, parameters = Selection(memory_ids=memory_ids[start : start + IDS_AT_ONCE]).conditions()
            rows = await self._rows("*", conditions, parameters, IDS_AT_ONCE * 2)
            found += [MemoryRecord.from_table_row(row) for row in rows]
        return found

    async def ids(self, selection: Selection) -> AsyncIterator[list[str]]:
        """Ids of all that the selection has, in pages."""
        if await is_empty(self._workspace, self._name):
            return
        for_python = selection.metadata.keys() - pushed(selection.metadata).keys()
        columns = "memory_id, metadata" if for_python else "memory_id"
        after = ""
        while True:
            conditions, parameters = selection.conditions()
            conditions.append("memory_id > :after_id")
            parameters["after_id"] = after
            rows = await self._rows(columns, conditions, parameters, PAGE, order="memory_id")
            yield [
                row["memory_id"]
                for row in rows
                if not for_python or has_metadata(json.loads(row["metadata"] or "{}"), selection.metadata)
            ]
            if len(rows) < PAGE:
                return
            after = rows[-1]["memory_id"]

    async def count(self) -> int:
        if await is_empty(self._workspace, self._name):
            return 0
        result = await self._query(f"SELECT count(*) FROM {self._name}", {}, 1)  # noqa: S608
        return int(result.rows[0][0])

    async def count_of(self, user: str) -> int:
        if await is_empty(self._workspace, self._name):
            return 0
        statement = f"SELECT count(*) FROM {self._name} WHERE `user` = :user"  # noqa: S608
        return int((await self._query(statement, {"user": user}, 1)).rows[0][0])

    async def _rows(
        self,
        columns: str,
        conditions: Sequence[str],
        parameters: Mapping[str, Any],
        limit: int,
        order: str = "created_at DESC, memory_id",
    ) -> list[dict[str, Any]]:
        where = " AND ".join(conditions) or "true"
        statement = f"SELECT {columns} FROM {self._name} WHERE {where} ORDER BY {order} LIMIT {limit}"  # noqa: S608
        return (await self._query(statement, parameters, limit)).to_dicts()

    async def _query(self, statement: str, parameters: Mapping[str, Any], limit: int) -> QueryResult:
        return await self._workspace.warehouse.query(statement, parameters, row_limit=limit)


async def is_empty(workspace: Workspace, table: str) -> bool:
    """Whether the table is known to have no rows, which costs no query: the embedded warehouse takes 60 MB with its
    first. Raises what `describe` raises."""
    return (await workspace.tables.describe(table)).file_count == 0
