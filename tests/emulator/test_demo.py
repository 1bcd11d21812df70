"""`lakemesh demo` says the same on the Databricks build, over the emulator, as on the embedded one."""

import os
import re
import subprocess
import sys
from pathlib import Path

from tests.emulator.served import serve
from tests.judge import judged

pytestmark = judged


def demo(home: Path, **environment: str) -> tuple[list[str], list[tuple[str, ...]]]:
    """The lines that must not depend on the build: decisions and fraud metrics, and the telemetry's counts."""
    command = [sys.executable, "-m", "lakemesh.cli", "demo", "--home", str(home), "--requests", "300"]
    shell = {**os.environ, "COLUMNS": "120", **environment}
    finished = subprocess.run(command, capture_output=True, text=True, env=shell, timeout=240)
    assert finished.returncode == 0, finished.stderr
    lines = [
        line
        for line in finished.stdout.splitlines()
        if re.search(r"decisions|AUC ROC|average precision|card precision|trans\w+ +│", line)
    ]
    counts = re.findall(r"│ ([a-z_]+) +│ (\d+) +│ (\d+) +│ [\d.]+ +│ [\d.]+ +│", finished.stdout)
    return lines, counts


def test_the_demo_says_the_same_on_both_builds(tmp_path: Path) -> None:
    local = demo(tmp_path / "local", LAKEMESH_WORKSPACE="embedded")
    with serve(tmp_path / "emulated") as emulator:
        remote = demo(
            tmp_path / "remote",
            LAKEMESH_WORKSPACE="databricks",
            LAKEMESH_WAREHOUSE_ID="emulator",
            DATABRICKS_HOST=emulator.url,
            DATABRICKS_TOKEN="emulator-token",
        )
    assert len(local[0]) >= 4
    assert ("fraud_detector", "300", "0") in local[1]
    assert remote == local
