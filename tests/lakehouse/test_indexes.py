from collections.abc import Mapping

import numpy as np
import pytest

from lakemesh.errors import Conflict, InvalidRequest, NotFound
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
