"""What only the embedded workspace promises: its folder is the truth, whatever happens to the process."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from lakemesh.errors import InvalidRequest, WorkspaceUnavailable
from lakemesh.lakehouse.arrow import rows_to_arrow
from lakemesh.lakehouse.embedded import open_workspace
from lakemesh.lakehouse.embedded.vector_index import EXACT_UP_TO, VectorIndex
from lakemesh.lakehouse.indexes import IndexSpec
from lakemesh.lakehouse.tables import Column, TableSpec

pytestmark = pytest.mark.anyio

WRITER = """
import asyncio, sys
from pathlib import Path
from lakemesh.lakehouse.arrow import rows_to_arrow
from lakemesh.lakehouse.embedded import open_workspace
from lakemesh.lakehouse.tables import AppTransaction, Column, TableSpec

async def main():
    workspace = await open_workspace(Path(sys.argv[1]))
    columns = [Column("n", "BIGINT")]
    await workspace.tables.create(TableSpec(name="main.a.t", columns=columns))
    start = (await workspace.tables.applied_version("main.a.t", "app") or 0) + 1
    for version in range(start, 100_000):
        rows = rows_to_arrow(columns, [{"n": version}])
        await workspace.tables.append("main.a.t", rows, transaction=AppTransaction("app", version))
        print(version, flush=True)

asyncio.run(main())
"""


def write_and_kill(home: Path, rounds: int) -> None:
    """Start a writer, let it commit a few times, kill it in the middle of whatever it does."""
    for round_ in range(rounds):
        process = subprocess.Popen([sys.executable, "-c", WRITER, str(home)], stdout=subprocess.PIPE)
        assert process.stdout is not None
        for _ in range(3 + round_):
            assert process.stdout.readline()
        os.kill(process.pid, signal.SIGKILL)
        process.communicate()


async def test_killed_writer_leaves_every_row_once(tmp_path: Path) -> None:
    write_and_kill(tmp_path, rounds=5)
    workspace = await open_workspace(tmp_path)
    result = await workspace.warehouse.query("SELECT n FROM main.a.t ORDER BY n")
    numbers = [row[0] for row in result.rows]
    assert numbers == list(range(1, len(numbers) + 1))
    assert len(numbers) >= 25
    await workspace.close()


async def test_index_is_rebuilt_from_its_table(tmp_path: Path) -> None:
    spec = IndexSpec(name="main.a.i", dimension=4, columns={"id": "string", "kind": "string"})
    first = await open_workspace(tmp_path)
    await first.indexes.create(spec)
    rows = [{"id": str(n), "kind": "old", "embedding": np.eye(4)[n].tolist()} for n in range(4)]
    await first.indexes.upsert("main.a.i", rows)
    await first.indexes.upsert("main.a.i", [rows[1] | {"kind": "new"}])
    await first.indexes.delete("main.a.i", ["2"])
    await first.close()
    second = await open_workspace(tmp_path)
    matches = await second.indexes.query("main.a.i", [0.0, 1.0, 0.0, 0.0], top_k=10)
    assert {match.row["id"]: match.row["kind"] for match in matches} == {"0": "old", "1": "new", "3": "old"}
    assert matches[0].row["id"] == "1"
    await second.close()


async def test_link_out_of_the_volume_is_refused(tmp_path: Path) -> None:
    workspace = await open_workspace(tmp_path)
    volume = tmp_path / "volumes/main/a/v"
    volume.mkdir(parents=True)
    (tmp_path / "secret").write_text("secret")
    (volume / "link").symlink_to(tmp_path / "secret")
    with pytest.raises(InvalidRequest):
        await workspace.volumes.read("/Volumes/main/a/v/link")


async def test_mounted_folder_is_the_volume(tmp_path: Path) -> None:
    folder = tmp_path / "elsewhere"
    folder.mkdir()
    (folder / "x.txt").write_text("here")
    workspace = await open_workspace(tmp_path / "home", mounts={"/Volumes/main/agents/configs": folder})
    assert await workspace.volumes.read("/Volumes/main/agents/configs/x.txt") == b"here"


def test_large_index_finds_what_exact_search_finds() -> None:
    count, random = EXACT_UP_TO + 1_000, np.random.default_rng(1)
    centres = random.normal(size=(200, 16))
    vectors = centres[random.integers(0, 200, count)] + 0.3 * random.normal(size=(count, 16))
    vectors = (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32)
    index = VectorIndex(IndexSpec(name="a.b.c", dimension=16))
    for n in range(count):
        index.upsert(str(n), vectors[n], {"id": str(n)})
    index.build_graph()
    for n in range(100):
        index.delete(str(n))
    found = total = 0
    for query in vectors[random.integers(100, count, 50)]:
        scores = vectors @ query
        scores[:100] = -2
        exact = {str(n) for n in np.argsort(-scores)[:10]}
        matches = index.search(query.tolist(), 10, None, None)
        assert len(matches) == 10
        found += len(exact & {match.row["id"] for match in matches})
        total += 10
    assert found / total >= 0.95


async def test_home_with_a_space_in_its_path(tmp_path: Path) -> None:
    workspace = await open_workspace(tmp_path / "my lake\u00e9house")
    await workspace.tables.create(TableSpec(name="main.a.t", columns=[Column("id", "BIGINT")]))
    await workspace.tables.append("main.a.t", rows_to_arrow([Column("id", "BIGINT")], [{"id": 7}]))
    assert list((await workspace.warehouse.query("SELECT id FROM main.a.t")).rows) == [(7,)]
    assert (await workspace.tables.describe("main.a.t")).file_count == 1
    await workspace.close()


@pytest.mark.parametrize("name", ["50%41", "a*", "a[1]", "a?", "a#b"])
async def test_home_that_cannot_hold_tables_is_refused_at_once(tmp_path: Path, name: str) -> None:
    with pytest.raises(WorkspaceUnavailable):
        await open_workspace(tmp_path / name)
