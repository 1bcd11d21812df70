"""Spark is asked by `make judge-spark`; its answers are kept in `answers.json`."""

from collections.abc import Iterator

import pytest

from tests.spark.spark import Spark, load, require_spark, started


@pytest.fixture(scope="session")
def spark(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Spark]:
    require_spark()
    with started() as process:
        load(process, tmp_path_factory.mktemp("corpus"))
        yield process
