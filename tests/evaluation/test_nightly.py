"""What is done every night, by the command and by the job's program."""

import os
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path

import httpx
import pytest

from lakemesh.cli.nightly import seconds_until, time_of_day
from lakemesh.errors import InvalidRequest
from tests.evaluation.test_promotion import answer, command, config_of
from tests.evaluation.test_promotion import folder as folder
from tests.models.scripted_thread import scripted_model
from tests.server import running_server

REPOSITORY = Path(__file__).parents[2]
OPTIMIZE = "optimize: {prompt: helper, calls: 60, share: 0.5}\n"


def test_a_better_text_gets_its_share_and_wins_by_itself(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(folder)
    suite = folder / "suite.yaml"
    suite.write_text(suite.read_text() + OPTIMIZE)
    with scripted_model(answer) as model:
        config = config_of(folder, model.base_url)
        first = command("nightly", folder)
        assert "no experiment on helper runs" in first
        assert "helper: gain: hold-out 0.000 to 1.000" in first
        assert "1 to 50%, 2 to 50%" in command("prompts", "list")
        second = command("nightly", folder)
        assert "helper: go_on" in second
        assert "an experiment on helper still runs" in second
        with running_server(folder / "home", config) as server, httpx.Client(base_url=server.url, timeout=60) as client:
            for place in range(130):
                sent = {"agent_name": "helper", "data": {"message": "hi"}, "session_id": f"s{place}"}
                found = client.post("/api/execute", json=sent).json()
                told = {
                    "execution_id": found["metadata"]["execution_id"],
                    "value": float(found["result"]["text"].strip() == "HI"),
                }
                assert client.post("/api/feedback", json=told).status_code == 204
        assert "helper: promote" in command("nightly", folder)
        assert "serves 2" in command("prompts", "list")
        moves = command("sql", "SELECT action, why FROM main.agents.prompt_moves WHERE action = 'promote'")
        assert "1.000 over" in moves


def test_the_jobs_program_takes_the_apps_environment_and_fails_when_something_did(folder: Path, tmp_path: Path) -> None:
    (folder / "evaluation").mkdir()
    for name, prompt in (("good", "helper"), ("lost", "nobody")):
        text = (folder / "suite.yaml").read_text().replace("cases.jsonl", "../cases.jsonl")
        wanted = f"optimize: {{prompt: {prompt}, calls: 60}}\n" if prompt == "nobody" else ""
        (folder / f"evaluation/{name}.yaml").write_text(text + wanted)
    with scripted_model(answer) as model:
        config = config_of(folder, model.base_url)
        given = [f"LAKEMESH_HOME={folder / 'home'}", f"LAKEMESH_CONFIG_FOLDER={config}"]
        command_line = [sys.executable, REPOSITORY / "jobs/nightly.py", folder, *given]
        environment = {**os.environ, "PYTHONPATH": str(REPOSITORY)}
        done = subprocess.run(command_line, env=environment, capture_output=True, text=True, timeout=120)
    assert done.returncode == 1
    assert "good: monitor" in done.stdout
    assert "lost: optimize: There is no prompt 'nobody'" in done.stderr


def test_a_local_schedule_is_a_time_of_day() -> None:
    now = datetime(2026, 3, 1, 1, 30, tzinfo=UTC)
    assert seconds_until(time_of_day("02:00"), now) == 1_800
    assert seconds_until(time_of_day("01:30"), now) == timedelta(days=1).total_seconds()
    with pytest.raises(InvalidRequest, match="HH:MM"):
        time_of_day("2 o'clock")
    assert "There are no suites" in refused(Path("/tmp/nothing-there"))


def refused(folder: Path) -> str:
    from lakemesh.cli.nightly import read_suites

    with pytest.raises(InvalidRequest) as error:
        read_suites(folder)
    return error.value.detail
