"""LangGraph's own conformance suite, a real graph and its store, on the PostgreSQL of lakemesh's sessions."""

import json
import os
import subprocess
from pathlib import Path
from typing import Any

import pytest

from tests.interop.clients import python_of
from tests.judge import judged

pytestmark = judged

ROOT = Path(__file__).parents[2]
SCRIPT = Path(__file__).parent / "scripts/langgraph_client.py"
CAPABILITIES = {
    "put",
    "put_writes",
    "get_tuple",
    "list",
    "delete_thread",
    "delete_for_runs",
    "copy_thread",
    "prune",
}


@pytest.fixture(scope="module")
def found(postgres: str) -> dict[str, Any]:
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "LAKEMESH_DATABASE": postgres}
    done = subprocess.run(
        [python_of("langgraph"), str(SCRIPT)], env=environment, capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def test_the_checkpointer_conforms_whole(found: dict[str, Any]) -> None:
    results = found["conformance"]["results"]
    assert {name for name, result in results.items() if result["detected"]} == CAPABILITIES
    assert [failure for result in results.values() for failure in result["failures"]] == []
    assert sum(result["tests_passed"] for result in results.values()) == 81


def test_a_graph_stops_at_a_question_and_goes_on_for_its_user_alone(found: dict[str, Any]) -> None:
    assert found["graph"] == {
        "asked": "May I?",
        "ended": ["begin", "first", "yes", "last"],
        "others_state": {},
        "checkpoints": 5,
        "found": [["drink", True]],
        "others_items": 0,
    }


def test_the_store_answers_as_langgraphs_own(found: dict[str, Any]) -> None:
    assert found["store"] == []
