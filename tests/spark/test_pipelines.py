"""Pipelines on Spark: what is rendered runs, and gives what the definition says."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from lakemesh.lakehouse.embedded import open_workspace
from lakemesh.lakehouse.workspace import Workspace
from lakemesh.pipelines.definition import PipelineDefinition
from lakemesh.pipelines.prove import prove
from lakemesh.pipelines.render import render
from lakemesh.pipelines.spark.process import Spark
from tests.pipelines.golden import load_cases
from tests.pipelines.sales import sales
from tests.spark.spark import require_spark

RENDERED = [case for case in load_cases() if "refused" not in case.content]
LIMITS: dict[str, str] = {}
"""Cases that open-source Spark cannot run, with the error class that says so."""


@pytest.fixture(scope="module")
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture(scope="module")
async def spark() -> AsyncIterator[Spark]:
    resident = Spark(require_spark().parents[1])
    yield resident
    await resident.close()


@pytest.fixture(scope="module")
async def warehouse(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Workspace]:
    opened = await open_workspace(tmp_path_factory.mktemp("home"))
    yield opened
    await opened.close()


async def test_a_pipeline_of_nearly_everything_gives_the_rows_that_its_definition_says(
    spark: Spark, warehouse: Workspace
) -> None:
    await assert_proved(sales(), spark, warehouse)


@pytest.mark.parametrize("case", RENDERED, ids=[case.id for case in RENDERED])
async def test_a_golden_request_gives_the_rows_that_its_definition_says(
    case, spark: Spark, warehouse: Workspace
) -> None:
    if case.id in LIMITS:
        definition = case.definition()
        proof = await prove(definition, render(definition), spark=spark, warehouse=warehouse.warehouse)
        assert proof.error == LIMITS[case.id]
        return
    await assert_proved(case.definition(), spark, warehouse)


async def assert_proved(definition: PipelineDefinition, spark: Spark, workspace: Workspace) -> None:
    proof = await prove(definition, render(definition), spark=spark, warehouse=workspace.warehouse)
    assert proof.error is None, proof.message
    assert {name: table for name, table in proof.tables.items() if table.differing} == {}
    assert {table.rows for table in proof.tables.values()} != {0}
    rules = {(dataset.name, rule.name) for dataset in definition.datasets for rule in dataset.rules}
    assert {(found["dataset"], found["name"]) for found in proof.expectations} == rules


async def test_a_failure_of_one_pipeline_is_no_other_ones(spark: Spark, warehouse: Workspace) -> None:
    broken = {path: code.replace('"bronze_orders"', '"nowhere"', 1) for path, code in render(sales()).items()}
    proof = await prove(sales(), broken, spark=spark, warehouse=warehouse.warehouse)
    assert proof.error is not None
    await assert_proved(sales(), spark, warehouse)


async def test_spark_that_was_killed_is_started_again(spark: Spark, warehouse: Workspace, tmp_path: Path) -> None:
    await spark.close()
    await assert_proved(sales(), spark, warehouse)
