"""What Spark answered, as kept in `answers.json`. `python -m tests.spark.answers` asks again and writes it."""

import json
import tempfile
from pathlib import Path
from typing import Any

from tests.spark.corpus import cases
from tests.spark.spark import Spark, as_spark_names, load, started

FILE = Path(__file__).with_name("answers.json")


def ask(spark: Spark, statement: str) -> dict[str, Any]:
    answer = spark.ask(as_spark_names(statement))
    return {"error": answer["error"]} if "error" in answer else answer


def kept() -> dict[str, dict[str, Any]]:
    return json.loads(FILE.read_text())


def record() -> None:
    with started() as spark, tempfile.TemporaryDirectory() as folder:
        load(spark, Path(folder))
        answers = {case.statement: ask(spark, case.statement) for case in cases()}
    lines = (f"{json.dumps(statement)}: {json.dumps(answer)}" for statement, answer in answers.items())
    FILE.write_text("{\n" + ",\n".join(lines) + "\n}\n")


if __name__ == "__main__":
    record()
