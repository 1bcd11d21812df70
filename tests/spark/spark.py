"""Spark as the judge: a process of its own, asked by JSON lines."""

import json
import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.judge import JUDGE

ROOT = Path(__file__).parents[2]
PYTHON = Path(os.environ.get("LAKEMESH_SPARK", ROOT / ".cache/spark")) / "bin/python"


def require_spark() -> Path:
    """The interpreter that has Spark."""
    if not JUDGE:
        pytest.skip("`make judge-spark` asks Spark; its kept answers are compared here")
    if not PYTHON.exists():
        pytest.skip("Spark is not installed; `make spark` does it")
    return PYTHON


class Spark:
    def __init__(self, process: "subprocess.Popen[str]") -> None:
        self._process = process

    def ask(self, statement: str) -> dict[str, Any]:
        """`columns`, `types` and `rows`, or `error` (Spark's error class) and `message`."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(json.dumps({"sql": statement}) + "\n")
        self._process.stdin.flush()
        line = self._process.stdout.readline()
        assert line, "Spark ended"
        return json.loads(line)

    def run(self, statement: str) -> dict[str, Any]:
        answer = self.ask(statement)
        assert "error" not in answer, answer["message"]
        return answer


@contextmanager
def started() -> Iterator[Spark]:
    process = subprocess.Popen(
        [PYTHON, Path(__file__).with_name("spark_process.py")],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )
    try:
        assert process.stdout is not None
        ready = process.stdout.readline()
        assert ready, "Spark did not start"
        yield Spark(process)
    finally:
        assert process.stdin is not None
        process.stdin.close()
        try:
            process.wait(20)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def load(spark: Spark, folder: Path) -> None:
    """The corpus' tables, as Parquet files that Spark reads. A VARIANT is parsed from its text."""
    import pyarrow.parquet as pq

    from lakemesh.lakehouse.arrow import rows_to_arrow
    from tests.spark.corpus import COLUMNS, rows

    spark.run("CREATE SCHEMA corpus")
    for name, content in rows().items():
        pq.write_table(rows_to_arrow(COLUMNS[name], content), folder / f"{name}.parquet")
        items = [f"parse_json({c.name}) AS {c.name}" if c.type == "VARIANT" else c.name for c in COLUMNS[name]]
        source = f"parquet.`{folder}/{name}.parquet`"
        spark.run(f"CREATE TABLE corpus.{name} USING parquet AS SELECT {', '.join(items)} FROM {source}")


def as_spark_names(statement: str) -> str:
    return statement.replace("main.corpus.", "spark_catalog.corpus.")
