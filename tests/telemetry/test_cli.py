"""`lakemesh telemetry` on a home with dead letters."""

import asyncio
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from lakemesh.cli.main import app
from lakemesh.errors import InvalidRequest
from lakemesh.lakehouse.embedded.tables import DeltaTables
from lakemesh.telemetry import Telemetry
from tests.server import write_config
from tests.telemetry.test_pipeline import execution, rows, running


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = write_config(tmp_path / "config", "  echo: {class: lakemesh.agents.echo:EchoAgent}")
    monkeypatch.setenv("LAKEMESH_HOME", str(tmp_path))
    monkeypatch.setenv("LAKEMESH_CONFIG_FOLDER", str(folder))
    monkeypatch.setenv("COLUMNS", "200")
    return tmp_path


def call(*arguments: str) -> str:
    result = CliRunner().invoke(app, ["telemetry", *arguments])
    assert result.exit_code == 0, result.output
    return result.output


def test_a_refused_batch_is_listed_replayed_and_delivered(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async def refused(*_: Any, **__: Any) -> bool:
        raise InvalidRequest("The rows do not fit.")

    async def record() -> None:
        async with running(home, log_level=None) as (telemetry, _):
            telemetry.record_execution(execution(execution_id="late"))
            await telemetry.flush()

    async def deliver() -> list[dict[str, Any]]:
        async with running(home, log_level=None) as (telemetry, workspace):
            assert isinstance(telemetry, Telemetry)
            assert await telemetry.flush()
            return await rows(workspace, "SELECT execution_id FROM main.agents.telemetry")

    with monkeypatch.context() as patch:
        patch.setattr(DeltaTables, "append", refused)
        asyncio.run(record())
    letters = call("dead-letters")
    assert "main.agents.agent_executions" in letters
    assert "The rows do not fit." in letters
    assert "spool-0" in call("status")
    assert "batches put back" in call("replay")
    assert "Nothing." in call("dead-letters")
    assert asyncio.run(deliver()) == [{"execution_id": "late"}]


def test_upkeep_drops_what_is_older_than_the_retention(home: Path) -> None:
    async def record() -> None:
        async with running(home, log_level=None) as (telemetry, _):
            telemetry.record_execution(execution(timestamp_ns=1))
            assert await telemetry.flush()

    asyncio.run(record())
    (home / "tables").symlink_to(home / "workspace" / "tables")
    assert "deleted_rows" in call("maintain")
