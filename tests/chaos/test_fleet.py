"""Server processes are killed under load while maintenance loops: every table is compared with what the clients were
told. Two, then four on one folder, and two replicas, each with a disk of its own, on the emulated workspace."""

import asyncio
import random
import sys
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path

import pytest

from lakemesh.config.settings import Settings
from lakemesh.lakehouse import databricks, embedded
from tests.chaos.fleet import AGENTS, MODELS, Member, Place, Told, counts, deliver_the_rest, maintaining
from tests.chaos.rounds import ROUNDS
from tests.emulator.served import TOKEN, serve_by_command
from tests.judge import judged
from tests.server import write_config

pytestmark = pytest.mark.anyio

UNSPOOLED_SECONDS = 3.0
"""Answers older than this must never be missing. docs/telemetry.md says a quarter of a second while a core is
idle, which none is here; the age that was seen is told."""


def written(folder: Path, *, before_answer: bool = False) -> Path:
    options = f"telemetry: {{flush_seconds: 0.5, log_level: null, metrics_seconds: 1, before_answer: {before_answer}}}"
    return write_config(folder, AGENTS, options, MODELS)


async def killed_under_load(places: Sequence[Place]) -> list[Told]:
    """What the clients of all were told, after `ROUNDS` kills."""
    members = [await asyncio.to_thread(Member, place) for place in places]
    for member in members:
        member.ask()
    told = [member.told for member in members]
    for _ in range(ROUNDS):
        await asyncio.sleep(random.uniform(0.5, 1.5))
        number = random.randrange(len(places))
        await members[number].kill()
        members[number] = await asyncio.to_thread(Member, places[number])
        members[number].ask()
        told.append(members[number].told)
    await asyncio.sleep(0.5)
    codes = {await member.stop() for member in members}
    assert codes <= {0, -15}  # ended by its own graceful way, or said to have been asked to end
    return told


def compare(found: Mapping[str, Mapping[str, int]], told: Sequence[Told], *, most_seconds: float) -> None:
    """Nothing is there twice; what was accepted as kept is there; answers that are missing were younger than that."""
    doubled = {table: [name for name, count in rows.items() if count > 1] for table, rows in found.items()}
    assert not any(doubled.values()), doubled
    accepted = set().union(*(one.feedback for one in told))
    assert accepted - set(found["feedback"]) == set(), "feedback that was accepted is lost"
    missing = {
        table: [
            one.age(at)
            for one in told
            for (execution, trace), at in one.answered.items()
            if (trace if table == "traces" else execution) not in found[table]
        ]
        for table in ("executions", "models", "traces")
    }
    answered = sum(len(one.answered) for one in told)
    ages = {table: f"{len(ages)}, oldest {max(ages, default=0):.3f} s" for table, ages in missing.items()}
    kills = sum(one.killed_at is not None for one in told)
    sys.stderr.write(f"{kills} kills, {answered} answered, {len(accepted)} feedback, missing before a kill: {ages}\n")
    refused = sum((one.refused for one in told), Counter())
    assert answered > 20 * ROUNDS, refused
    assert all(age <= most_seconds for ages in missing.values() for age in ages), f"older answers are lost: {ages}"


@pytest.mark.parametrize(
    ("processes", "before_answer"),
    [(2, False), pytest.param(4, False, marks=judged), pytest.param(2, True, marks=judged)],
)
async def test_servers_on_one_folder(tmp_path: Path, processes: int, before_answer: bool) -> None:
    place = Place(tmp_path, written(tmp_path / "config", before_answer=before_answer), {})
    with maintaining({"LAKEMESH_HOME": str(tmp_path)}):
        told = await killed_under_load([place] * processes)
    workspace = await embedded.open_workspace(tmp_path)
    for _ in range(processes):
        await deliver_the_rest(workspace, [tmp_path])
    await workspace.close()
    compare(await counts(tmp_path), told, most_seconds=0 if before_answer else UNSPOOLED_SECONDS)


@judged
async def test_replicas_on_the_emulator(tmp_path: Path) -> None:
    config = written(tmp_path / "config")
    homes = [tmp_path / "one", tmp_path / "two"]
    with serve_by_command(tmp_path / "emulated") as emulator:
        environment = {
            "LAKEMESH_WORKSPACE": "databricks",
            "LAKEMESH_WAREHOUSE_ID": "emulator",
            "DATABRICKS_HOST": emulator.url,
            "DATABRICKS_TOKEN": TOKEN,
        }
        workspace = await databricks.open_workspace(Settings(**environment | {"workspace": "databricks"}))
        await workspace.warehouse.query("CREATE VOLUME IF NOT EXISTS main.agents.configs", read_only=False)
        await workspace.volumes.write(Settings().config, (config / "lakemesh.yaml").read_bytes())
        with maintaining(environment):
            told = await killed_under_load([Place(home, config, environment) for home in homes])
        await deliver_the_rest(workspace, homes)
        await workspace.close()
    compare(await counts(tmp_path / "emulated"), told, most_seconds=UNSPOOLED_SECONDS)
