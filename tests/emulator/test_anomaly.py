"""`anomaly` over the workspace's API, by the real SDK: its queries and its MERGE are the platform's."""

import asyncio
from datetime import timedelta
from pathlib import Path

import httpx
import pyarrow as pa
import pytest

from lakemesh.lakehouse import databricks
from lakemesh.lakehouse.tables import Column, TableSpec
from tests.agents.anomaly.test_anomaly import COLUMNS, NOW, orders
from tests.emulator.served import TOKEN, Emulator, serve
from tests.server import running_server, write_config

pytestmark = pytest.mark.anyio

AGENTS = """
  watch:
    class: anomaly
    timeout_seconds: 100
    options:
      watches:
        orders:
          table: main.shop.orders
          time: at
          quiet: 0
          evidence: [id, amount, note]
          segments: [country]
          volume: {}
          freshness: {max_age: 3 hours}
          distribution: {amounts: {column: amount}, countries: {column: country}}
          rules: {large: {condition: amount > 10000}}
"""


async def filled(emulator: Emulator) -> None:
    workspace = await databricks.open_workspace(emulator.settings())
    columns = [Column(name, kind) for name, kind in COLUMNS.items()]
    await workspace.tables.create(TableSpec(name="main.shop.orders", columns=columns))
    await workspace.tables.append("main.shop.orders", pa.Table.from_pylist(orders()))
    await workspace.close()


async def test_alerts_are_written_once_on_the_workspace(tmp_path: Path) -> None:
    config = write_config(tmp_path / "config", AGENTS)
    with serve(tmp_path / "emulated") as emulator:
        await filled(emulator)
        settings = {
            "DATABRICKS_HOST": emulator.url,
            "DATABRICKS_TOKEN": TOKEN,
            "LAKEMESH_WAREHOUSE_ID": "emulator",
            "workspace": "databricks",
            "local_config": True,
        }
        with running_server(tmp_path / "home", config, **settings) as server:
            reports = []
            for moment in (NOW, NOW, NOW + timedelta(days=2)):
                body = {"agent": "watch", "data": {"now": moment.isoformat()}}
                answer = await asyncio.to_thread(
                    lambda sent=body: httpx.post(f"{server.url}/api/execute", json=sent, timeout=120)
                )
                assert answer.status_code == 200, answer.text
                reports.append(answer.json()["result"])
        first, again, later = reports
        assert sorted(alert["check"] for alert in first["alerts"]) == ["large", "volume"], first
        assert (first["faults"], again["alerts"], again["known"]) == ([], [], 2)
        assert next(one for one in first["alerts"] if one["check"] == "large")["evidence"][0]["note"] == "mail [e-mail]"
        assert "freshness" in {alert["check"] for alert in later["alerts"]}
        workspace = await databricks.open_workspace(emulator.settings())
        found = await workspace.warehouse.query("SELECT count(*) FROM main.agents.alerts WHERE notified_at IS NOT NULL")
        assert found.rows == [(len(first["alerts"]) + len(later["alerts"]),)]
        await workspace.close()
