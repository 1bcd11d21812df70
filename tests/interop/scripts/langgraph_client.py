"""Run by an interpreter that has LangGraph, with lakemesh on its path: what LangGraph's own conformance suite says of
the checkpointer, what a real graph does with it and the store, and where the store differs from LangGraph's. JSON."""

import asyncio
import json
import os
import sys
import uuid
from typing import Annotated, Any, TypedDict

from langgraph.checkpoint.conformance import checkpointer_test, validate
from langgraph.graph import END, START, StateGraph
from langgraph.store.base import BaseStore, GetOp, ListNamespacesOp, MatchCondition, PutOp, SearchOp
from langgraph.store.memory import InMemoryStore
from langgraph.types import Command, interrupt

from lakemesh.lakehouse.database import Database, open_url
from lakemesh.sessions.langgraph import Checkpointer, GraphStore

URL = os.environ["LAKEMESH_DATABASE"]


def words(texts: Any) -> list[list[float]]:
    """Enough of an embedding: how often each of some words is said."""
    return [[float(text.lower().count(word)) + 0.001 for word in ("tea", "train", "red")] for text in texts]


async def embed(texts: Any) -> list[list[float]]:
    return words(texts)


async def conformance(database: Database) -> dict[str, Any]:
    @checkpointer_test(name="lakemesh")
    async def registered() -> Any:
        yield Checkpointer(database, agent="graph", user=f"u-{uuid.uuid4().hex}")

    return (await validate(registered)).to_dict()


class State(TypedDict):
    said: Annotated[list[str], lambda old, new: old + new]


def graph(database: Database, user: str) -> Any:
    """Two steps with a question between them; the second writes into the store."""

    async def first(state: State) -> dict[str, Any]:
        return {"said": ["first"]}

    async def ask(state: State) -> dict[str, Any]:
        return {"said": [interrupt("May I?")]}

    async def last(state: State, *, store: BaseStore) -> dict[str, Any]:
        await store.aput(("notes",), "drink", {"text": "likes green tea"})
        return {"said": ["last"]}

    built = StateGraph(State)
    for name, step in (("first", first), ("ask", ask), ("last", last)):
        built.add_node(name, step)
    for begin, end in ((START, "first"), ("first", "ask"), ("ask", "last"), ("last", END)):
        built.add_edge(begin, end)
    return built.compile(
        checkpointer=Checkpointer(database, agent="graph", user=user),
        store=GraphStore(database, agent="graph", user=user, embed=embed),
    )


async def real_graph(database: Database) -> dict[str, Any]:
    """It stops at its question, and goes on in another graph object with another user's thread of the same name
    untouched."""
    user, config = f"u-{uuid.uuid4().hex}", {"configurable": {"thread_id": "t"}}
    stopped = await graph(database, user).ainvoke({"said": ["begin"]}, config)
    other = await graph(database, f"other-{user}").aget_state(config)
    ended = await graph(database, user).ainvoke(Command(resume="yes"), config)
    history = [one async for one in graph(database, user).aget_state_history(config)]
    store = GraphStore(database, agent="graph", user=user, embed=embed)
    found = await store.asearch(("notes",), query="which tea?")
    theirs = await GraphStore(database, agent="graph", user="somebody").asearch(("notes",))
    return {
        "asked": stopped["__interrupt__"][0].value,
        "ended": ended["said"],
        "others_state": other.values,
        "checkpoints": len(history),
        "found": [(one.key, one.score is not None) for one in found],
        "others_items": len(theirs),
    }


OPERATIONS: list[list[Any]] = [
    [
        PutOp(("a", "x"), "1", {"text": "red tea", "score": 1, "deep": {"b": [1, 2]}}),
        PutOp(("a", "y"), "2", {"text": "a train", "score": 5}),
        PutOp(("b", "x", "z"), "3", {"text": "red train", "score": 9}),
    ],
    [GetOp(("a", "x"), "1"), GetOp(("a", "x"), "none"), GetOp(("none",), "1")],
    [SearchOp(("a",)), SearchOp(()), SearchOp((), filter={"score": {"$gte": 5}}), SearchOp((), filter={"score": 1})],
    [SearchOp((), filter={"deep": {"b": [1, 2]}}), SearchOp((), filter={"score": {"$gt": 1, "$lt": 9}})],
    [
        SearchOp((), filter={"text": {"$ne": "a train"}}),
        SearchOp((), query="tea"),
        SearchOp((), query="train", limit=1),
    ],
    [SearchOp((), query="train", offset=1), SearchOp(("a",), query="red", filter={"score": 1})],
    [ListNamespacesOp(), ListNamespacesOp(max_depth=1), ListNamespacesOp(limit=1, offset=1)],
    [
        ListNamespacesOp(match_conditions=(MatchCondition("prefix", ("a",)),)),
        ListNamespacesOp(match_conditions=(MatchCondition("suffix", ("x",)),)),
        ListNamespacesOp(match_conditions=(MatchCondition("prefix", ("*", "x")),)),
    ],
    [PutOp(("a", "x"), "1", {"text": "green tea"}), GetOp(("a", "x"), "1")],
    [PutOp(("a", "y"), "2", None), PutOp(("c",), "4", {"text": "no vector"}, index=False)],
    [GetOp(("a", "x"), "1"), GetOp(("a", "y"), "2"), SearchOp((), query="tea"), ListNamespacesOp()],
]


def plain(result: Any) -> Any:
    """Without times and with scores rounded; a search's items of one rank in the order of their keys."""
    if isinstance(result, list):
        items = [plain(one) for one in result]
        return items if not items or "key" not in items[0] else sorted(items, key=lambda one: one["key"])
    if result is None or isinstance(result, tuple):
        return result
    score = getattr(result, "score", None)
    return {
        "namespace": result.namespace,
        "key": result.key,
        "value": result.value,
        "score": None if score is None else round(score, 6),
    }


def kept(store: InMemoryStore) -> list[tuple[tuple[str, ...], Any]]:
    return list(store._data.items())


async def store_differences(database: Database) -> list[str]:
    """Operations whose results are not those of LangGraph's own store."""
    ours = GraphStore(database, agent="store", user=f"u-{uuid.uuid4().hex}", embed=embed)
    theirs = InMemoryStore(index={"dims": 3, "embed": embed})
    differences = []
    for operations in OPERATIONS:
        for op, own, wanted in zip(
            operations, await ours.abatch(operations), await theirs.abatch(operations), strict=True
        ):
            if isinstance(op, ListNamespacesOp):  # it lists namespaces that were only asked for, or are empty by now
                wanted = [
                    one for one in wanted if any(items and one == name[: len(one)] for name, items in kept(theirs))
                ]
            if plain(own) != plain(wanted):
                differences.append(f"{op}: {plain(own)} and not {plain(wanted)}")
    return differences


async def main() -> None:
    database = open_url(URL)
    found = {
        "conformance": await conformance(database),
        "graph": await real_graph(database),
        "store": await store_differences(database),
    }
    await database.close()
    json.dump(found, sys.stdout)


if __name__ == "__main__":
    asyncio.run(main())
