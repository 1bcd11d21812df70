"""Bad days of memory: what was acknowledged as remembered is there, what was acknowledged as forgotten is not."""

import asyncio
import random
import signal
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from lakemesh.lakehouse.embedded import open_workspace
from tests.chaos.memory_opened import open_memory
from tests.chaos.rounds import ROUNDS
from tests.judge import judged

pytestmark = pytest.mark.anyio

INDEX = "main.agents.memory_index"
ROUNDS_OF_ONE_HOME = 10
"""Then a new one: what has grown to a hundred thousand memories takes a minute to start."""
IDS = "SELECT memory_id FROM main.agents.memory"


@dataclass
class Said:
    """What the processes have acknowledged; a forgetting that was begun may have happened."""

    remembered: set[str] = field(default_factory=set)
    forgetting: set[str] = field(default_factory=set)
    forgotten: set[str] = field(default_factory=set)

    def read(self, lines: list[str]) -> None:
        for line in lines:
            what, *rest = line.split() or [""]
            # A line without its end is one the process was killed in; others are of the log.
            if line.endswith("\n") and what in ("remembered", "forgetting", "forgotten"):
                getattr(self, what).add(*rest)


def start(home: Path, name: str) -> "subprocess.Popen[str]":
    command = [sys.executable, "-m", "tests.chaos.memory_load", str(home), name]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def listen(load: "subprocess.Popen[str]", said: Said) -> None:
    """Until it remembers and forgets, and then for a random while."""
    assert load.stdout is not None
    while (line := load.stdout.readline()) and not line.startswith("forgotten"):
        said.read([line])
    said.read([line, *(load.stdout.readline() for _ in range(random.randint(0, 60)))])


async def one_round(home: Path, names: list[str], said: Said) -> None:
    loads = [start(home, name) for name in names]
    try:
        for load in loads:
            await asyncio.to_thread(listen, load, said)
        for load in loads:
            await asyncio.sleep(random.uniform(0, 0.2))
            assert load.poll() is None, load.stderr and load.stderr.read()[-3_000:]
            load.send_signal(signal.SIGKILL)
    finally:
        for load in loads:
            load.kill()
            assert load.stdout is not None
            # Not communicate(), which passes over the lines that are in the reader's buffer.
            said.read(await asyncio.to_thread(load.stdout.readlines))
            load.wait()


async def check(home: Path, said: Said) -> None:
    workspace = await open_workspace(home / "workspace")
    memory = open_memory(workspace, home / "memory")
    await memory.start()
    await memory.reconcile()
    assert await memory.flush()
    listed = [row[0] for row in (await workspace.warehouse.query(IDS, row_limit=1_000_000)).rows]
    rows, indexed = set(listed), set(await workspace.indexes.keys(INDEX))
    assert len(listed) == len(rows), "a memory is there twice"
    assert said.remembered - said.forgetting - rows == set(), "acknowledged memories are lost"
    assert said.forgotten & (rows | indexed) == set(), "forgotten memories are back"
    assert rows == indexed, "index and table differ"
    await memory.close()
    await workspace.close()


@pytest.mark.parametrize("processes", [pytest.param(1, marks=judged), 2])
async def test_killed_under_load(tmp_path: Path, processes: int) -> None:
    remembered = forgotten = 0
    for first in range(0, ROUNDS, ROUNDS_OF_ONE_HOME):
        said, home = Said(), tmp_path / str(first)
        for number in range(first, min(first + ROUNDS_OF_ONE_HOME, ROUNDS)):
            await one_round(home, [f"r{number}p{process}" for process in range(processes)], said)
            await check(home, said)
        remembered, forgotten = remembered + len(said.remembered), forgotten + len(said.forgotten)
        sys.stderr.write(f"{number + 1} rounds: {remembered} remembered, {forgotten} forgotten\n")
    assert remembered > forgotten > 0
