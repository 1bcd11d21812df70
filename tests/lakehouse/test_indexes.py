from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pytest

from lakemesh.errors import Conflict, InvalidRequest, NotFound, WorkspaceUnavailable
from lakemesh.lakehouse.embedded import open_workspace
from lakemesh.lakehouse.embedded.indexes import COMPACT_ABOVE_FILES
from lakemesh.lakehouse.embedded.tables import DeltaTables
from lakemesh.lakehouse.indexes import IndexSpec
from lakemesh.lakehouse.workspace import Workspace

pytestmark = pytest.mark.anyio

NAME = "main.shop.things"
SPEC = IndexSpec(name=NAME, dimension=8, columns={"id": "string", "kind": "string", "weight": "long", "text": "string"})


def vector(seed: int) -> list[float]:
    return np.random.default_rng(seed).normal(size=8).tolist()


def thing(n: int, **over: object) -> dict[str, object]:
    kinds = ("apple", "pear", "plum")
    return {"id": f"t{n}", "kind": kinds[n % 3], "weight": n, "text": f"thing number{n}", "embedding": vector(n)} | over


@pytest.fixture
async def things(workspace: Workspace) -> Workspace:
    await workspace.indexes.create(SPEC)
    await workspace.indexes.upsert(NAME, [thing(n) for n in range(60)])
    return workspace


async def ids(workspace: Workspace, n: int, top_k: int, filters: Mapping[str, object] | None = None) -> list[str]:
    matches = await workspace.indexes.query(NAME, vector(n), top_k=top_k, filters=filters)
    return [match.row["id"] for match in matches]


async def test_nearest_come_first_with_their_cosine(things: Workspace) -> None:
    matches = await things.indexes.query(NAME, [2 * x for x in vector(5)], top_k=60)
    assert matches[0].row == {"id": "t5", "kind": "plum", "weight": 5, "text": "thing number5"}
    assert matches[0].score == pytest.approx(1.0, abs=1e-5)
    expected = {}
    for n in range(60):
        a, b = np.array(vector(5)), np.array(vector(n))
        expected[f"t{n}"] = a @ b / np.linalg.norm(a) / np.linalg.norm(b)
    assert [match.row["id"] for match in matches] == sorted(expected, key=lambda key: -expected[key])
    assert [match.score for match in matches] == pytest.approx(sorted(expected.values(), reverse=True), abs=1e-5)


@pytest.mark.parametrize(
    ("filters", "passes"),
    [
        ({"kind": "pear"}, lambda n: n % 3 == 1),
        ({"kind": ["pear", "plum"]}, lambda n: n % 3 != 0),
        ({"kind NOT": "pear"}, lambda n: n % 3 != 1),
        ({"weight >=": 50}, lambda n: n >= 50),
        ({"weight <": 7, "kind": "apple"}, lambda n: n < 7 and n % 3 == 0),
        ({"weight": [1, 2, 99]}, lambda n: n in (1, 2)),
        ({"kind": "melon"}, lambda n: False),
    ],
)
async def test_filters(things: Workspace, filters: Mapping[str, object], passes) -> None:
    assert set(await ids(things, 5, 60, filters)) == {f"t{n}" for n in range(60) if passes(n)}


@pytest.mark.parametrize("filters", [{"colour": "red"}, {"weight LIKE": 1}, {"weight >": "heavy"}])
async def test_bad_filters_are_refused(things: Workspace, filters: Mapping[str, object]) -> None:
    with pytest.raises(InvalidRequest):
        await ids(things, 5, 3, filters)


async def test_upsert_replaces_and_delete_removes(things: Workspace) -> None:
    await things.indexes.upsert(NAME, [thing(5, kind="changed", embedding=vector(900))])
    assert await things.indexes.count(NAME) == 60
    assert (await ids(things, 900, 1)) == ["t5"]
    await things.indexes.delete(NAME, ["t5", "never-there"])
    assert await things.indexes.count(NAME) == 59
    assert "t5" not in await ids(things, 900, 60)


async def test_words_count_in_a_hybrid_query(things: Workspace) -> None:
    matches = await things.indexes.query(NAME, vector(5), top_k=3, text='number33 "OR" * (')
    assert "t33" in [match.row["id"] for match in matches]


async def test_columns_are_chosen(things: Workspace) -> None:
    matches = await things.indexes.query(NAME, vector(5), top_k=1, columns=["weight"])
    assert matches[0].row == {"weight": 5}


@pytest.mark.parametrize("bad", [[1.0], [float("nan")] * 8, []])
async def test_vectors_of_another_form_are_refused(things: Workspace, bad: list[float]) -> None:
    with pytest.raises(InvalidRequest):
        await things.indexes.query(NAME, bad)
    with pytest.raises(InvalidRequest):
        await things.indexes.upsert(NAME, [thing(1, embedding=bad)])


async def test_creating_again_keeps_rows_and_refuses_another_dimension(things: Workspace) -> None:
    await things.indexes.create(SPEC)
    assert await things.indexes.count(NAME) == 60
    with pytest.raises(Conflict):
        await things.indexes.create(IndexSpec(name=NAME, dimension=9, columns=SPEC.columns))


async def test_unknown_index_is_not_found(workspace: Workspace) -> None:
    with pytest.raises(NotFound):
        await workspace.indexes.query("main.shop.nothing", vector(1))
    with pytest.raises(NotFound):
        await workspace.indexes.upsert("main.shop.nothing", [thing(1)])


TYPED = IndexSpec(
    name="main.a.typed",
    dimension=2,
    columns={"id": "long", "kind": "string", "nanos": "long", "at": "timestamp", "good": "boolean"},
)
NANOS = 1_700_000_000_123_456_789


async def typed_ids(workspace: Workspace, **query: object) -> list[int]:
    matches = await workspace.indexes.query(TYPED.name, [1.0, 0.0], columns=["id"], **query)
    return sorted(match.row["id"] for match in matches)


@pytest.fixture
async def typed(workspace: Workspace) -> Workspace:
    await workspace.indexes.create(TYPED)
    rows = [
        {"id": 1, "kind": "a", "nanos": NANOS, "at": "2026-01-01T00:00:00Z", "good": True, "embedding": [1.0, 0.0]},
        {"id": 2, "kind": "b", "nanos": NANOS + 1, "at": datetime(2026, 1, 2, tzinfo=UTC), "embedding": [0.0, 1.0]},
        {"id": 3, "embedding": [1.0, 1.0]},
    ]
    await workspace.indexes.upsert(TYPED.name, rows)
    return workspace


@pytest.mark.parametrize(
    ("filters", "found"),
    [
        ({"nanos": NANOS}, [1]),
        ({"nanos >": NANOS}, [2]),
        ({"nanos <=": NANOS}, [1]),
        ({"at >=": "2026-01-01T12:00:00+00:00"}, [2]),
        ({"at": datetime(2026, 1, 1, tzinfo=UTC)}, [1]),
        ({"good": True}, [1]),
        ({"id": [1, 3]}, [1, 3]),
        ({"kind": []}, []),
    ],
)
async def test_filters_compare_exactly(typed: Workspace, filters: Mapping[str, object], found: list[int]) -> None:
    assert await typed_ids(typed, filters=filters) == found


async def test_large_numbers_come_back_as_they_are(typed: Workspace) -> None:
    [match] = await typed.indexes.query(TYPED.name, [1.0, 0.0], top_k=1)
    assert match.row["nanos"] == NANOS


async def test_keys_that_are_numbers_are_deleted_for_good(typed: Workspace, tmp_path: Path) -> None:
    await typed.indexes.delete(TYPED.name, ["1", "999"])
    assert await typed_ids(typed) == [2, 3]
    again = await open_workspace(tmp_path / "workspace")
    assert await typed_ids(again) == [2, 3]
    await again.close()


@pytest.mark.parametrize(
    "row",
    [
        {"id": "x"}, {"id": 9, "nanos": 2**63}, {"id": 9, "nanos": 1.5}, {"id": 9, "kind": 5}, {"id": 9, "at": "soon"},
        {"id": 9, "at": 5}, {"id": 9, "good": "yes"}, {"id": 9, "embedding": ["a", "b"]}, {"id": 9, "embedding": None},
    ],
)  # fmt: skip
async def test_rows_of_another_type_are_refused_whole(typed: Workspace, row: dict[str, object]) -> None:
    good = {"id": 4, "embedding": [1.0, 0.0]}
    with pytest.raises(InvalidRequest):
        await typed.indexes.upsert(TYPED.name, [good, {"embedding": [1.0, 0.0], **row}])
    assert await typed_ids(typed) == [1, 2, 3]


@pytest.mark.parametrize(
    "spec",
    [
        IndexSpec(name="main.a.bad", dimension=0),
        IndexSpec(name="main.a.bad", dimension=2, columns={"id": "string", "_sequence": "long"}),
        IndexSpec(name="main.a.bad", dimension=2, columns={"id": "string", "embedding": "string"}),
    ],
)
async def test_indexes_that_cannot_be_are_refused(workspace: Workspace, spec: IndexSpec) -> None:
    with pytest.raises(InvalidRequest):
        await workspace.indexes.create(spec)


@pytest.mark.parametrize("top_k", [0, -1])
async def test_asking_for_nothing_is_refused(typed: Workspace, top_k: int) -> None:
    with pytest.raises(InvalidRequest):
        await typed_ids(typed, top_k=top_k)


async def test_index_of_many_small_upserts_is_compacted_when_opened(workspace: Workspace, tmp_path: Path) -> None:
    spec = IndexSpec(name="main.a.small", dimension=2)
    await workspace.indexes.create(spec)
    for n in range(COMPACT_ABOVE_FILES + 1):
        await workspace.indexes.upsert(spec.name, [{"id": str(n % 7), "embedding": [1.0, float(n)]}])
    await workspace.indexes.delete(spec.name, ["0"])
    again = await open_workspace(tmp_path / "workspace")
    assert await again.indexes.count(spec.name) == 6
    await again.close()
    assert (await DeltaTables(tmp_path / "workspace/indexes").describe(spec.name)).file_count == 1


async def test_two_workspaces_on_one_home_see_each_other_at_once(things: Workspace, tmp_path: Path) -> None:
    other = await open_workspace(tmp_path / "workspace")
    assert await other.indexes.count(NAME) == 60
    await things.indexes.upsert(NAME, [thing(100)])
    assert await ids(other, 100, 1) == ["t100"]
    await other.indexes.delete(NAME, ["t100", "t7"])
    await other.indexes.upsert(NAME, [thing(3, kind="changed")])
    assert await things.indexes.count(NAME) == 59
    assert await ids(things, 3, 1, {"kind": "changed"}) == ["t3"]
    await other.close()


async def test_deleted_by_another_process_stays_deleted(things: Workspace, tmp_path: Path, monkeypatch) -> None:
    """Whoever started first, and whatever the clocks say."""
    other = await open_workspace(tmp_path / "workspace")
    await other.indexes.upsert(NAME, [thing(200)])
    monkeypatch.setattr("time.time_ns", lambda: 1)
    await things.indexes.delete(NAME, ["t200"])
    await other.close()
    after = await open_workspace(tmp_path / "workspace")
    assert await after.indexes.count(NAME) == 60
    assert await ids(after, 200, 1) != ["t200"]
    await after.close()


def files_of(tmp_path: Path) -> list[Path]:
    return sorted((tmp_path / "workspace/indexes/main/shop/things").glob("*.parquet"))


async def test_a_damaged_file_is_a_designed_error(things: Workspace, tmp_path: Path) -> None:
    await things.indexes.upsert(NAME, [thing(100)])
    for file in files_of(tmp_path):
        file.write_bytes(file.read_bytes()[:40])
    other = await open_workspace(tmp_path / "workspace")
    for act in (other.indexes.query(NAME, vector(1)), other.indexes.upsert(NAME, [thing(1)])):
        with pytest.raises(WorkspaceUnavailable):
            await act
    await other.close()


async def test_maintenance_lets_deleted_text_go_and_other_processes_go_on(things: Workspace, tmp_path: Path) -> None:
    other = await open_workspace(tmp_path / "workspace")
    await things.indexes.upsert(NAME, [thing(100, text="a secret of somebody")])
    assert await other.indexes.count(NAME) == 61
    await things.indexes.delete(NAME, ["t100"])
    assert any(b"a secret" in file.read_bytes() for file in files_of(tmp_path))
    await things.indexes.maintain(NAME, retention_hours=0)
    assert not any(b"a secret" in file.read_bytes() for file in files_of(tmp_path))
    for workspace in (other, things):
        assert await workspace.indexes.count(NAME) == 60
    await other.indexes.upsert(NAME, [thing(101)])
    assert await ids(things, 101, 1) == ["t101"]
    await other.close()
