"""The statement API refuses what the platform refuses, and the Databricks build reads whatever it answers."""

import asyncio
from datetime import date, timedelta
from decimal import Decimal
from pathlib import Path

import httpx
import pytest

from lakemesh.errors import InvalidRequest
from lakemesh.lakehouse import databricks
from lakemesh.lakehouse.databricks.cells import reader_of
from lakemesh.lakehouse.workspace import Workspace
from tests.emulator.served import Emulator, serve

pytestmark = pytest.mark.anyio

API = "/api/2.0/sql/statements"
ONE = {"warehouse_id": "emulator", "statement": "SELECT 1 AS a", "wait_timeout": "30s"}


def asked(emulator: Emulator, **changes: object) -> httpx.Response:
    return emulator.call("POST", API, ONE | changes)


@pytest.mark.parametrize(
    ("changes", "status"),
    [
        ({"wait_timeout": "60s"}, 400),
        ({"wait_timeout": "3s"}, 400),
        ({"wait_timeout": "soon"}, 400),
        ({"format": "ARROW_STREAM"}, 400),
        ({"format": "CSV"}, 400),
        ({"format": "CSV", "disposition": "EXTERNAL_LINKS"}, 501),
        ({"disposition": "SOMEWHERE"}, 400),
        ({"warehouse_id": "another"}, 404),
        ({"warehouse_id": ""}, 400),
        ({"statement": "SELECT '" + "x" * (16 * 2**20) + "'"}, 400),
        ({"parameters": [{"name": "p", "type": "DECIMAL(1,0)", "value": "100"}], "statement": "SELECT :p"}, 400),
        ({"parameters": [{"name": "p", "type": "INT", "value": "a"}], "statement": "SELECT :p"}, 400),
        ({"parameters": [{"name": "p", "type": "NUMBERS", "value": "1"}], "statement": "SELECT :p"}, 400),
    ],
)
def test_what_the_platform_refuses(emulator: Emulator, changes: dict, status: int) -> None:
    assert asked(emulator, **changes).status_code == status


def test_what_is_refused_was_not_run(emulator: Emulator) -> None:
    assert asked(emulator, statement="CREATE TABLE main.refused.t (a INT)", wait_timeout="60s").status_code == 400
    answer = asked(emulator, statement="SELECT * FROM main.refused.t").json()
    assert "TABLE_OR_VIEW_NOT_FOUND" in answer["status"]["error"]["message"]


def test_the_session_and_the_limits_of_a_request_hold(emulator: Emulator) -> None:
    assert asked(emulator, statement="CREATE TABLE main.sessions.t AS SELECT 7 AS a").json()["status"]["state"]
    found = asked(emulator, statement="SELECT a FROM t", catalog="main", schema="sessions").json()
    assert found["result"]["data_array"] == [["7"]]
    many = "SELECT repeat('x', 100) AS a FROM range(50)"
    cut = asked(emulator, statement=many, byte_limit=1_000).json()
    assert (cut["manifest"]["truncated"], len(cut["result"]["data_array"])) == (True, 10)
    cut = asked(emulator, statement=many, row_limit=3).json()
    assert (cut["manifest"]["truncated"], len(cut["result"]["data_array"])) == (True, 3)


WIDE = "SELECT repeat('x', 1000000) AS a FROM range(27)"


async def test_a_wide_result_does_not_go_inline_and_is_read_all_the_same(
    emulator: Emulator, workspace: Workspace
) -> None:
    status = asked(emulator, statement=WIDE, wait_timeout="50s").json()["status"]
    assert status["state"] == "FAILED"
    assert "disposition=EXTERNAL_LINKS" in status["error"]["message"]
    found = await workspace.warehouse.query(WIDE)
    assert (len(found.rows), found.truncated) == (27, False)


async def test_cells_that_python_has_no_value_for(workspace: Workspace) -> None:
    found = await workspace.warehouse.query(
        "SELECT TIMESTAMP'2026-01-02 00:00:00' - TIMESTAMP'2026-01-01 00:00:00' AS d, :large AS l, :tiny AS t",
        {"large": Decimal("1E+3"), "tiny": Decimal("0.01")},
    )
    assert found.rows[0][0] == timedelta(days=1)
    assert (found.rows[0][1], found.rows[0][2]) == (Decimal(1_000), Decimal("0.01"))
    for value in ("NaN", "Infinity"):
        with pytest.raises(InvalidRequest):
            await workspace.warehouse.query("SELECT :p", {"p": Decimal(value)})
    assert reader_of("DATE")("10000-01-01") == "10000-01-01"
    assert reader_of("DATE")("2026-01-01") == date(2026, 1, 1)
    assert reader_of("TIMESTAMP")("-0001-01-01T00:00:00Z") == "-0001-01-01T00:00:00Z"
    assert reader_of("STRUCT<a: INTERVAL DAY TO SECOND>")('{"a": "1 02:03:04"}') is not None


async def test_statements_that_wait_for_a_cold_warehouse_hold_up_no_file(tmp_path: Path) -> None:
    """Forty of them, and a volume is read before the first is over."""
    with serve(tmp_path, warehouse_start_seconds=4.0) as emulator:
        workspace = await databricks.open_workspace(emulator.settings())
        await workspace.volumes.write("/Volumes/main/a/b/file.txt", b"here")
        waiting = [asyncio.create_task(workspace.warehouse.query("SELECT 1")) for _ in range(40)]
        await asyncio.sleep(0.2)
        assert await workspace.volumes.read("/Volumes/main/a/b/file.txt") == b"here"
        assert not any(task.done() for task in waiting)
        assert [result.rows for result in await asyncio.gather(*waiting)] == [[(1,)]] * 40
        await workspace.close()
