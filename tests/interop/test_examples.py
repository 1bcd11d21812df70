"""The examples that need what others wrote, each in an environment that has it and lakemesh's dependencies."""

import os
import subprocess
from pathlib import Path

import pytest

from tests.interop.clients import python_of
from tests.judge import judged

pytestmark = judged

ROOT = Path(__file__).parents[2]
ENVIRONMENTS = {
    "openai_agent": "lakemesh-openai-agents",
    "pydantic_agent": "lakemesh-pydantic-ai",
    "langgraph_agent": "lakemesh-langgraph",
    "mcp_client": "lakemesh-mcp",
}


@pytest.mark.parametrize("example", ENVIRONMENTS)
def test_the_example_runs(example: str, tmp_path: Path) -> None:
    run(example, tmp_path)


def test_the_graphs_state_is_in_the_database_where_there_is_one(tmp_path: Path, postgres: str) -> None:
    run("langgraph_agent", tmp_path, LAKEMESH_DATABASE=postgres)


def run(example: str, tmp_path: Path, **variables: str) -> None:
    command = [python_of(ENVIRONMENTS[example]), "-m", "pytest", "-q", "-rs", "-p", "no:cacheprovider"]
    environment = {**os.environ, "PYTHONPATH": str(ROOT), **variables}
    done = subprocess.run(
        [*command, f"--basetemp={tmp_path}", f"examples/{example}"],
        capture_output=True, text=True, timeout=240, cwd=ROOT, env=environment,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout[-4_000:] + done.stderr
    assert "skipped" not in done.stdout
