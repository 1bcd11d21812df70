"""On the Databricks build: a staged file and COPY INTO through the real SDK, against the emulator."""

from pathlib import Path

import pytest

from lakemesh.config.telemetry import TelemetryConfig
from lakemesh.lakehouse import databricks
from lakemesh.telemetry import Telemetry
from tests.emulator.served import serve
from tests.telemetry.test_pipeline import execution, rows

pytestmark = pytest.mark.anyio


async def test_rows_arrive_once_through_copy_into(tmp_path: Path) -> None:
    with serve(tmp_path / "emulated") as emulator:
        workspace = await databricks.open_workspace(emulator.settings())
        for name in ("first", "second"):
            telemetry = Telemetry(
                TelemetryConfig(batch_size=10, log_level=None), workspace=workspace, folder=tmp_path / "telemetry"
            )
            await telemetry.start()
            for _ in range(25):
                telemetry.tracer.start_span(name, attributes={"k": 1}).end()
            telemetry.record_execution(execution(execution_id=name))
            assert await telemetry.flush(), telemetry.health()
            await telemetry.close(timeout_seconds=20)
            if name == "first":  # the app is made anew; the view is somebody else's meanwhile
                view = "CREATE OR REPLACE VIEW main.agents.telemetry AS SELECT *, 7 AS theirs FROM {}"
                await workspace.warehouse.query(view.format("main.agents.agent_executions"), read_only=False)
        theirs = await rows(workspace, "SELECT DISTINCT theirs FROM main.agents.telemetry")
        spans = await rows(workspace, "SELECT name, count(*) AS n FROM main.agents.traces GROUP BY 1 ORDER BY 1")
        found = await rows(workspace, "SELECT execution_id FROM main.agents.telemetry ORDER BY 1")
        await workspace.close()
    assert spans == [{"name": "first", "n": 25}, {"name": "second", "n": 25}]
    assert [row["execution_id"] for row in found] == ["first", "second"]
    assert theirs == [{"theirs": 7}]
