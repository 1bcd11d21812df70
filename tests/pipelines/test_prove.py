"""What is refused before anything runs; what runs is in tests/spark."""

from pathlib import Path

import pytest

from lakemesh.errors import PermissionDenied, Unavailable
from lakemesh.lakehouse.embedded import open_workspace
from lakemesh.pipelines.prove import prove
from lakemesh.pipelines.render import render
from lakemesh.pipelines.requests import definition_of
from lakemesh.pipelines.spark.process import Spark

SIMPLE = definition_of("orders from CSV files, daily revenue by country")


async def test_nothing_runs_that_the_gate_refuses_or_without_spark(tmp_path: Path) -> None:
    workspace = await open_workspace(tmp_path / "home")
    arguments = {"spark": Spark(tmp_path / "none"), "warehouse": workspace.warehouse}
    try:
        with pytest.raises(PermissionDenied, match="line 1"):
            await prove(SIMPLE, {"transformations/gold.py": "import os\n"}, **arguments)
        with pytest.raises(Unavailable, match="make spark"):
            await prove(SIMPLE, render(SIMPLE), **arguments)
    finally:
        await workspace.close()
