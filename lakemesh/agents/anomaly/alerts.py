"""The table of alerts: each is written once, whoever finds it and however often."""

import json
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

from lakemesh.agents.anomaly.schemas import Alert
from lakemesh.lakehouse.sql_sandbox import quoted
from lakemesh.lakehouse.tables import Column, TableSpec
from lakemesh.lakehouse.workspace import Workspace

COLUMNS: Mapping[str, str] = {
    "alert_id": "STRING", "agent": "STRING", "watch": "STRING", "check": "STRING", "kind": "STRING",
    "severity": "STRING", "source_table": "STRING", "bucket_start": "TIMESTAMP", "bucket_end": "TIMESTAMP",
    "value": "DOUBLE", "expected": "DOUBLE", "score": "DOUBLE", "explanation": "STRING", "evidence": "STRING",
    "proposal": "STRING", "run_id": "STRING", "created_at": "TIMESTAMP", "notified_at": "TIMESTAMP",
}  # fmt: skip
COMMENTS = {
    "alert_id": "the same for the same thing, whoever found it",
    "evidence": "rows, as JSON, without personal data",
    "run_id": "the run that wrote it",
    "notified_at": "when everybody had been told",
}
ATTEMPTS = 5
FORGOTTEN_SECONDS = 300.0
"""An alert whose run has not told of it by then is told of by the next run: that one ended in between."""
KNOWN = 1_000


def alerts_table(name: str) -> TableSpec:
    columns = [Column(key, kind, COMMENTS.get(key)) for key, kind in COLUMNS.items()]
    return TableSpec(name=name, columns=columns, comment="What the agent `anomaly` found")


class AlertStore:
    """`agent` is whose alerts these are. Everything raises what the warehouse raises."""

    def __init__(self, table: str, agent: str, workspace: Workspace) -> None:
        self._table = table
        self._agent = agent
        self._workspace = workspace

    async def prepare(self) -> None:
        await self._workspace.tables.create(alerts_table(self._table))

    async def write(self, alert: Alert, *, run_id: str, now: datetime) -> bool:
        """Whether the alert is this run's: it had not been written, or by an earlier attempt of the run. One commit;
        of several that write the same at once, one does (MERGE reads the table, so others' commits conflict)."""
        row: dict[str, Any] = {
            **{name: getattr(alert, name) for name in COLUMNS if name in Alert.model_fields},
            "agent": self._agent, "source_table": alert.table, "evidence": json.dumps(alert.evidence, default=str),
            "run_id": run_id, "created_at": now, "notified_at": None,
        }  # fmt: skip
        values = ", ".join(f"CAST(:{name} AS {kind}) AS `{name}`" for name, kind in COLUMNS.items())
        await self._workspace.warehouse.query(
            f"MERGE INTO {quoted(self._table)} AS t USING (SELECT {values}) AS s ON t.alert_id = s.alert_id"
            " WHEN NOT MATCHED THEN INSERT *",
            row,
            read_only=False,
        )
        found = await self._rows("SELECT run_id FROM {table} WHERE alert_id = :alert_id", {"alert_id": alert.alert_id})
        return any(one["run_id"] == run_id for one in found)

    async def was_quiet(self, alert: Alert, seconds: float) -> bool:
        """Whether no other alert of the same check is about the time just before."""
        found = await self._rows(
            "SELECT count(*) AS n FROM {table} WHERE agent = :agent AND watch = :watch AND `check` = :check"
            " AND bucket_start < :start AND bucket_start >= :since",
            {
                "agent": self._agent, "watch": alert.watch, "check": alert.check, "start": alert.bucket_start,
                "since": alert.bucket_start - timedelta(seconds=seconds),
            },
        )  # fmt: skip
        return not found[0]["n"]

    async def of_run(self, run_id: str) -> list[Alert]:
        """Those that the run wrote, in any of its attempts."""
        found = await self._rows(
            "SELECT * FROM {table} WHERE agent = :agent AND run_id = :run_id ORDER BY created_at, alert_id",
            {"agent": self._agent, "run_id": run_id},
        )
        return [alert_of(row) for row in found]

    async def untold(self, *, run_id: str, now: datetime) -> list[Alert]:
        """Alerts that nobody was told of: this run's, and those that another left behind."""
        found = await self._rows(
            "SELECT * FROM {table} WHERE agent = :agent AND notified_at IS NULL"
            " AND (run_id = :run_id OR created_at < :before) ORDER BY created_at",
            {"agent": self._agent, "run_id": run_id, "before": now - timedelta(seconds=FORGOTTEN_SECONDS)},
        )
        return [alert_of(row) for row in found]

    async def note_told(self, alerts: Sequence[Alert], *, now: datetime) -> None:
        for alert in alerts:
            await self._workspace.warehouse.query(
                f"UPDATE {quoted(self._table)} SET notified_at = CAST(:now AS TIMESTAMP) WHERE alert_id = :alert_id",  # noqa: S608
                {"alert_id": alert.alert_id, "now": now},
                read_only=False,
            )

    async def _rows(self, query: str, parameters: Mapping[str, Any]) -> list[dict[str, Any]]:
        text = query.replace("{table}", quoted(self._table))
        found = await self._workspace.warehouse.query(text, parameters, row_limit=KNOWN)
        return found.to_dicts()


def alert_of(row: Mapping[str, Any]) -> Alert:
    members = {name: row[name] for name in Alert.model_fields if name in row}
    moments = {name: aware(row[name]) for name in ("bucket_start", "bucket_end")}
    return Alert(
        **{**members, **moments, "table": row["source_table"], "evidence": json.loads(row["evidence"] or "[]")}
    )


def aware(moment: datetime) -> datetime:
    return moment if moment.tzinfo is not None else moment.replace(tzinfo=UTC)
