"""Speaks as `lakemesh/pipelines/spark/runner.py` does, without Java: what runs a pipeline for real is in tests/spark.

A module that names `nowhere` fails as Spark fails; every other one makes tables of two rows.
"""

import ast
import json
import os
import sys
import time
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet

MISSING = {"error": "TABLE_OR_VIEW_NOT_FOUND", "message": "[TABLE_OR_VIEW_NOT_FOUND] `nowhere` cannot be found."}


def environment(folder: Path) -> Path:
    """An environment whose Python is this module."""
    python = folder / "bin" / "python"
    python.parent.mkdir(parents=True)
    python.write_text(f'#!/bin/sh\nexec "{sys.executable}" "{__file__}"\n')
    python.chmod(0o755)
    return folder


def declared(code: str) -> tuple[list[str], list[dict]]:
    tables, expectations = [], []
    for function in ast.parse(code).body:
        if not isinstance(function, ast.FunctionDef):
            continue
        calls = [decorator for decorator in function.decorator_list if isinstance(decorator, ast.Call)]
        [name] = [ast.literal_eval(k.value) for call in calls for k in call.keywords if k.arg == "name"]
        tables.append(name)
        rules = [call.args[0].value for call in calls if call.func.attr.startswith("expect")]
        expectations += [{"name": rule, "dataset": name, "passed_records": 2, "failed_records": 1} for rule in rules]
    return tables, expectations


def answer_to(folder: Path) -> dict:
    job = json.loads((folder / "job.json").read_text())
    code = "\n".join((folder / path).read_text() for path in job["modules"])
    if "of busy:" in code:
        time.sleep(1)
    if "nowhere" in code:
        return MISSING
    if "run" not in job["steps"]:
        return {"events": [], "tables": {}, "expectations": [], "dry_run": 0.1}
    tables, expectations = declared(code)
    made = {}
    for name in tables:
        place = folder / "out" / name
        place.mkdir(parents=True)
        pa.parquet.write_table(pa.table({"id": [1, 2]}), place / "part.parquet")
        made[name] = {"folder": str(place)}
    return {"events": [], "tables": made, "expectations": expectations, "run": 0.1}


if __name__ == "__main__":
    for line in sys.stdin:
        if line.strip().endswith("die"):
            os._exit(1)
        sys.stdout.write(json.dumps(answer_to(Path(line.strip()))) + "\n")
        sys.stdout.flush()
