"""A pipeline deployed through the SDK to the emulator, and run on real Spark over files in a volume."""

from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from lakemesh.deadline import Deadline
from lakemesh.lakehouse import databricks
from lakemesh.lakehouse.workspace import Workspace
from lakemesh.pipelines.definition import PipelineDefinition
from lakemesh.pipelines.deploy import Deployment, Target, deploy
from lakemesh.pipelines.documents import build
from lakemesh.pipelines.requests import definition_of
from lakemesh.pipelines.versions import Provenance
from tests.emulator.served import Emulator, serve
from tests.spark.spark import require_spark

pytestmark = pytest.mark.anyio

REQUEST = (
    "orders from CSV files in /Volumes/main/shop/landing, drop rows without id,"
    " quarantine orders with negative amount, daily revenue by country"
)
KNOWN = {"orders": {"id": "BIGINT", "amount": "DECIMAL(18,2)", "country": "STRING", "ordered_at": "TIMESTAMP"}}
ROWS = b"""id,amount,country,ordered_at
1,10.00,de,2026-01-01T10:00:00
2,5.50,de,2026-01-01T11:00:00
,7.00,fr,2026-01-01T12:00:00
3,-1.00,fr,2026-01-01T13:00:00
4,2.00,fr,2026-01-02T09:00:00
"""


@pytest.fixture(scope="module")
def emulator(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Emulator]:
    with serve(tmp_path_factory.mktemp("deployed"), spark=require_spark().parents[1]) as served:
        yield served


@pytest.fixture
async def workspace(emulator: Emulator) -> AsyncIterator[Workspace]:
    opened = await databricks.open_workspace(emulator.settings())
    yield opened
    await opened.close()


async def deployed(workspace: Workspace, definition: PipelineDefinition, files: dict[str, str]) -> Deployment:
    return await deploy(
        definition, files, workspace=workspace, target=Target(folder="/Workspace/Users/agent"),
        provenance=Provenance(run=definition.digest, definition=definition.digest), tell=lambda line: None,
        deadline=Deadline.after(300),
    )  # fmt: skip


async def test_files_become_tables_and_a_change_takes_effect(workspace: Workspace, tmp_path: Path) -> None:
    await workspace.volumes.write("/Volumes/main/shop/landing/a.csv", ROWS)
    definition = definition_of(REQUEST, schema="shop", known=KNOWN)
    done = await deployed(workspace, definition, build(definition))
    assert done.succeeded, done.explanation
    rows = await workspace.warehouse.query("SELECT * FROM main.shop.daily_revenue_by_country ORDER BY ALL")
    assert [(str(day), country, str(revenue)) for day, country, revenue in rows.rows] == [
        ("2026-01-01", "de", "15.50"), ("2026-01-02", "fr", "2.00"),
    ]  # fmt: skip
    aside = await workspace.warehouse.query("SELECT id FROM main.shop.orders_quarantine")
    assert aside.rows == [(3,)]
    counted = {found["name"]: (found["passed_records"], found["failed_records"]) for found in done.expectations}
    assert counted == {"id_present": (4, 1), "amount_not_negative": (4, 1)}

    await workspace.volumes.write("/Volumes/main/shop/landing/b.csv", ROWS[:29] + b"9,1.00,de,2026-01-03T09:00:00\n")
    grown = definition_of(f"{REQUEST}, number of orders by country", schema="shop", known=KNOWN)
    again = await deployed(workspace, grown, build(grown))
    assert again.pipeline_id == done.pipeline_id
    rows = await workspace.warehouse.query("SELECT * FROM main.shop.order_count_by_country ORDER BY country")
    assert rows.rows == [("de", 3), ("fr", 1)]


async def test_what_spark_refuses_fails_the_validation_and_is_explained(workspace: Workspace) -> None:
    definition = definition_of(REQUEST, schema="broken", known=KNOWN).model_copy(update={"name": "broken"})
    files = build(definition)
    gold = files["transformations/gold.py"].replace("FROM orders", "FROM ordres")
    failed = await deployed(workspace, definition, {**files, "transformations/gold.py": gold})
    assert failed.update.validate_only
    assert failed.explanation is not None
    assert failed.explanation.error_class == "TABLE_OR_VIEW_NOT_FOUND"
    assert await workspace.tables.list_tables("main.broken") == []
