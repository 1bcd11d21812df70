"""Agents run by the clock, on two replicas of one PostgreSQL."""

import uuid
from contextlib import ExitStack
from pathlib import Path

import psycopg
import pytest

from lakemesh.config.schema import Config
from tests.agents.test_actions import until
from tests.server import running_server, write_config

AGENTS = '  worker: {class: "tests.invocations.agents:Worker", timeout_seconds: 60}'
WEEK = 10_080
ENDED = "SELECT owner, status, output FROM lakemesh.invocations WHERE status NOT IN ('queued', 'running')"


def test_a_moment_is_run_once_over_all_replicas_and_restarts(tmp_path: Path, postgres: str) -> None:
    name = f"clock_{uuid.uuid4().hex[:8]}"
    with psycopg.connect(postgres, autocommit=True) as connection:
        connection.execute(f"CREATE DATABASE {name}")
    database = postgres.replace("/postgres?", f"/{name}?")
    ledger = tmp_path / "ledger"
    schedule = f"{{agent: worker, every_minutes: {WEEK}, input: {{text: due, ledger: {ledger}}}}}"
    off = f"{{agent: worker, every_minutes: {WEEK}, enabled: false}}"
    config = write_config(tmp_path / "config", AGENTS, f"schedules: {{weekly: {schedule}, never: {off}}}\n")
    with psycopg.connect(database, autocommit=True) as connection:
        for _ in range(2):
            with ExitStack() as stack:
                for place in ("one", "two"):
                    stack.enter_context(running_server(tmp_path / place, config, database=database))
                until(ledger.exists)
                [(owner, status, output)] = until(lambda: connection.execute(ENDED).fetchall())
        assert (owner, status) == ("schedule:weekly", "completed"), output
        assert "schedule:weekly" in str(output)
        assert connection.execute("SELECT count(*) FROM lakemesh.invocations").fetchone() == (1,)
    assert ledger.read_text() == "run\n"


@pytest.mark.parametrize(
    ("schedule", "reason"),
    [({"agent": "nobody", "every_minutes": 5}, "nobody"), ({"agent": "echo", "every_minutes": 0}, "greater than")],
)
def test_what_cannot_be_run_is_a_fault_of_the_configuration(schedule: dict, reason: str) -> None:
    agents = {"echo": {"class": "echo"}}
    with pytest.raises(ValueError, match=reason):
        Config.model_validate({"agents": agents, "schedules": {"one": schedule}})
    late = {"schedules": {"one": {"agent": "echo", "every_minutes": WEEK}}, "invocations": {"retention_days": 1}}
    with pytest.raises(ValueError, match="retention_days"):
        Config.model_validate({"agents": agents, **late})
