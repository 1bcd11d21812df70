"""Pipelines on Spark: what is rendered runs, and gives what the definition says."""

from pathlib import Path

import pytest

from lakemesh.lakehouse.embedded import open_workspace
from lakemesh.pipelines.definition import PipelineDefinition
from lakemesh.pipelines.prove import Proof, prove
from lakemesh.pipelines.render import render
from lakemesh.pipelines.requests import definition_of
from tests.pipelines.sales import SALES, sales
from tests.spark.spark import require_spark

REQUEST = (
    "orders and customers from CSV files every hour, drop rows without id, latest customer by update time,"
    " daily revenue by country"
)


def batch_sales() -> PipelineDefinition:
    """Without the topic: `prove` refuses it."""
    sources = [source for source in SALES["sources"] if source["format"] != "kafka"]
    datasets = [{**dataset, "append": []} for dataset in SALES["datasets"]]
    return sales(sources=sources, datasets=datasets)


@pytest.fixture(params=["sales", "request"])
def proved(request: pytest.FixtureRequest) -> PipelineDefinition:
    return batch_sales() if request.param == "sales" else definition_of(REQUEST)


async def test_a_pipeline_gives_the_rows_that_its_definition_says(proved: PipelineDefinition, tmp_path: Path) -> None:
    python = require_spark()
    workspace = await open_workspace(tmp_path)
    try:
        proof: Proof = await prove(proved, render(proved), spark=python.parents[1], warehouse=workspace.warehouse)
    finally:
        await workspace.close()
    assert proof.error is None, proof.message
    assert {name: table for name, table in proof.tables.items() if table.differing} == {}
    assert any(
        table.rows < proof.input_rows["order_files" if "order_files" in proof.input_rows else "orders_files"]
        for table in proof.tables.values()
    )
