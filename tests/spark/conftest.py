"""Spark is asked where it is installed (`make spark`); its answers are kept in `answers.json`."""

from collections.abc import Iterator

import pytest

from tests.spark.spark import MISSING, PYTHON, Spark, load, started


@pytest.fixture(scope="session")
def spark(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Spark]:
    if not PYTHON.exists():
        pytest.skip(MISSING)
    with started() as process:
        load(process, tmp_path_factory.mktemp("corpus"))
        yield process
