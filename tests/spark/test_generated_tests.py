"""The tests that go with a pipeline: they pass over its code, and fail over code that says something else."""

import os
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

from lakemesh.pipelines.documents import build
from lakemesh.pipelines.spark.runner import java_home
from tests.pipelines.sales import sales
from tests.spark.spark import require_spark

PARTS = ("pytest", "py", "_pytest", "pluggy", "iniconfig", "packaging", "pygments")


def run(python: Path, folder: Path, tools: Path) -> "subprocess.CompletedProcess[str]":
    """In Spark's environment, which has no pytest of its own."""
    given = {"PATH": os.environ["PATH"], "HOME": str(folder), "PYTHONPATH": str(tools), "SPARK_LOCAL_IP": "127.0.0.1",
             "JAVA_HOME": str(tools / "java")}  # fmt: skip
    command = [python, "-m", "pytest", "-q", "-p", "no:cacheprovider", "tests"]
    return subprocess.run(command, cwd=folder, env=given, capture_output=True, text=True, timeout=300)


def test_they_pass_over_the_pipelines_code_and_fail_over_other_code(tmp_path: Path) -> None:
    python, tools = require_spark(), tmp_path / "tools"
    tools.mkdir()
    for part in PARTS:
        spec = find_spec(part)
        assert spec is not None
        assert spec.origin is not None
        place = Path(spec.origin)
        place = place.parent if place.name == "__init__.py" else place
        (tools / place.name).symlink_to(place)
    script = (
        "import sys; from pathlib import Path; sys.path.insert(0, sys.argv[1]);"
        "import runner; runner.java_home(Path(sys.argv[2]))"
    )
    runner = Path(sys.modules[java_home.__module__].__file__).parent
    subprocess.run([python, "-c", script, runner, tools / "java"], check=True)
    folder = tmp_path / "sales"
    for path, text in build(sales()).items():
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).write_text(text)
    passed = run(python, folder, tools)
    assert passed.returncode == 0, passed.stdout + passed.stderr
    gold = folder / "transformations" / "gold.py"
    gold.write_text(gold.read_text().replace("SUM(", "COUNT(").replace("sum(", "count("))
    failed = run(python, folder, tools)
    assert failed.returncode == 1
    assert "test_daily_revenue" in failed.stdout
