"""More than one process on one home: no row is lost, none is there twice, and a power cut is recovered from."""

import random
import subprocess
import sys
import time
from pathlib import Path

import pytest

from lakemesh.errors import WorkspaceUnavailable
from lakemesh.lakehouse.arrow import rows_to_arrow
from lakemesh.lakehouse.embedded import open_workspace
from lakemesh.lakehouse.embedded.tables import DeltaTables
from lakemesh.lakehouse.tables import AppTransaction, Column, TableSpec
from lakemesh.lakehouse.workspace import Workspace
from tests.chaos.rounds import ROUNDS

pytestmark = pytest.mark.anyio

NAME = "main.shop.orders"
COLUMNS = [Column("id", "STRING"), Column("kept", "BOOLEAN")]


def start(home: Path, process: str, rounds: int) -> "subprocess.Popen[str]":
    command = [sys.executable, "-m", "tests.chaos.table_load", str(home), process, str(rounds)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


async def kept(workspace: Workspace) -> list[str]:
    result = await workspace.warehouse.query(f"SELECT id FROM {NAME} WHERE kept ORDER BY id", row_limit=1_000_000)
    return [row[0] for row in result.rows]


async def test_two_processes_append_compact_delete_and_vacuum(tmp_path: Path) -> None:
    rounds = ROUNDS * 5
    for process in (loads := [start(tmp_path, name, rounds) for name in ("a", "b")]):
        _, errors = process.communicate()
        assert process.returncode == 0, errors[-2_000:]
    workspace = await open_workspace(tmp_path)
    assert await kept(workspace) == sorted(f"{name}-{number}" for name in "ab" for number in range(rounds))
    await workspace.close()
    assert len(loads) == 2


async def test_a_process_killed_beside_another(tmp_path: Path) -> None:
    rounds = ROUNDS * 5
    killed, other = start(tmp_path, "a", 1_000), start(tmp_path, "b", rounds)
    assert killed.stdout is not None
    acknowledged = [int(killed.stdout.readline()) for _ in range(random.randint(1, 5))]
    time.sleep(random.uniform(0, 0.1))  # noqa: ASYNC251 (a random moment)
    killed.kill()
    acknowledged += map(int, killed.stdout.readlines())
    killed.wait()
    _, errors = other.communicate()
    assert other.returncode == 0, errors[-2_000:]
    workspace = await open_workspace(tmp_path)
    found = await kept(workspace)
    assert len(found) == len(set(found))
    assert set(found) >= {f"a-{n}" for n in acknowledged} | {f"b-{n}" for n in range(rounds)}
    await workspace.close()


async def make(home: Path, commits: int) -> Workspace:
    workspace = await open_workspace(home)
    await workspace.tables.create(TableSpec(name=NAME, columns=COLUMNS))
    for number in range(commits):
        rows = rows_to_arrow(COLUMNS, [{"id": f"{number:03}", "kept": True}])
        await workspace.tables.append(NAME, rows, transaction=AppTransaction("app", number))
    return workspace


def cut(file: Path, how: str) -> None:
    content = file.read_bytes()
    file.write_bytes(b"" if how == "empty" else content[: len(content) // 2])


@pytest.mark.parametrize("how", ["empty", "torn"])
@pytest.mark.parametrize("what", ["commit", "data"])
async def test_a_last_commit_cut_by_a_power_cut_is_taken_back_and_can_be_made_again(
    tmp_path: Path, what: str, how: str
) -> None:
    await (await make(tmp_path, 3)).close()
    folder = tmp_path / "tables/main/shop/orders"
    pattern = "_delta_log/*.json" if what == "commit" else "*.parquet"
    newest = {"commit": lambda f: f.name, "data": lambda f: f.stat().st_mtime_ns}[what]
    cut(max(folder.glob(pattern), key=newest), how)
    workspace = await open_workspace(tmp_path)
    assert await kept(workspace) == ["000", "001"]
    assert await workspace.tables.applied_version(NAME, "app") == 1
    rows = rows_to_arrow(COLUMNS, [{"id": "002", "kept": True}])
    assert await workspace.tables.append(NAME, rows, transaction=AppTransaction("app", 2))
    assert await kept(workspace) == ["000", "001", "002"]
    await workspace.close()


async def test_nothing_is_taken_back_while_another_process_has_the_home_open(tmp_path: Path) -> None:
    workspace = await make(tmp_path, 3)
    folder = tmp_path / "tables/main/shop/orders"
    cut(max(folder.glob("_delta_log/*.json")), "torn")
    second = await open_workspace(tmp_path)
    with pytest.raises(WorkspaceUnavailable) as raised:
        await second.tables.append(NAME, rows_to_arrow(COLUMNS, [{"id": "x", "kept": True}]))
    assert "\n" not in raised.value.detail
    assert str(tmp_path) not in raised.value.detail
    await second.close()
    await workspace.close()


async def test_files_cut_short_are_designed_errors(tmp_path: Path) -> None:
    workspace = await make(tmp_path, 3)
    for file in (tmp_path / "tables/main/shop/orders").glob("*.parquet"):
        cut(file, "torn")
    for act in (workspace.tables.compact(NAME), workspace.tables.delete_rows(NAME, "id = '001'")):
        with pytest.raises(WorkspaceUnavailable) as raised:
            await act
        assert str(tmp_path).lstrip("/") not in raised.value.detail
    await workspace.close()


async def test_another_programs_compaction_does_not_double_rows(tmp_path: Path) -> None:
    """One that knows nothing of the lock commits between our look and our commit."""
    from deltalake import DeltaTable

    workspace = await make(tmp_path, 6)
    tables = workspace.tables
    assert isinstance(tables, DeltaTables)

    def compact_after_another(table: DeltaTable) -> None:
        DeltaTable(str(tables.folder(NAME))).optimize.compact()
        table.optimize.compact()

    with pytest.raises(WorkspaceUnavailable, match="try again"):
        await tables.exclusively(NAME, compact_after_another)
    assert len(await kept(workspace)) == 6
    await tables.compact(NAME)
    assert len(await kept(workspace)) == 6
    await workspace.close()


async def test_a_table_made_anew_by_another_process_is_seen(tmp_path: Path) -> None:
    first = await make(tmp_path, 4)
    second = await open_workspace(tmp_path)
    rows = rows_to_arrow(COLUMNS, [{"id": "new", "kept": True}])
    await second.tables.append(NAME, rows)
    await first.tables.drop(NAME)
    await first.tables.create(TableSpec(name=NAME, columns=COLUMNS))
    await second.tables.append(NAME, rows)
    assert await kept(first) == ["new"]
    await first.close()
    await second.close()
