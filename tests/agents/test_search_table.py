"""A table somebody has, searched by meaning through the REST door."""

import asyncio
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from lakemesh.lakehouse.embedded import open_workspace
from tests.server import Server, running_server, write_config

SOURCE = "{table: main.docs.pages, key: id, text: body, pipeline: CONTINUOUS}"
OPTIONS = f"{{index: main.docs.pages_index, columns: [id, kind, body], filters: {{public: true}}, source: {SOURCE}}}"
PAGES = "(1, 'a', 'How to brew strong coffee', true), (2, 'b', 'Steam engines', true), (3, 'a', 'Secret coffee', false)"


async def write(home: Path, *statements: str) -> None:
    workspace = await open_workspace(home)
    for statement in statements:
        await workspace.warehouse.query(statement, read_only=False)
    await workspace.close()


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("searched")


@pytest.fixture(scope="module")
def server(root: Path) -> Iterator[Server]:
    folder = write_config(root / "config", f"  pages: {{class: search_table, options: {OPTIONS}}}\n")
    create = "CREATE TABLE main.docs.pages (id BIGINT, kind STRING, body STRING, public BOOLEAN)"
    asyncio.run(write(root / "home", create, f"INSERT INTO main.docs.pages VALUES {PAGES}"))
    with running_server(root / "home", folder) as running:
        yield running


def search(server: Server, **data: object) -> httpx.Response:
    return httpx.post(f"{server.url}/api/execute", json={"agent_name": "pages", "data": data})


def test_rows_are_found_and_what_is_hidden_stays_so(server: Server) -> None:
    found = search(server, query="strong coffee").json()["result"]["matches"]
    assert (found[0]["id"], found[0]["kind"]) == (1, "a")
    assert {match["id"] for match in found} == {1, 2}
    found = search(server, query="coffee", filters={"kind": "b"}).json()["result"]["matches"]
    assert [match["id"] for match in found] == [2]
    for filters in ({"public": False}, {"public NOT": True}, {"nothing": 1}):
        answer = search(server, query="coffee", filters=filters)
        assert (answer.status_code, answer.json()["code"]) == (400, "invalid_request")


def test_what_another_writes_is_found_by_the_next_question(server: Server, root: Path) -> None:
    asyncio.run(write(root / "home", "INSERT INTO main.docs.pages VALUES (9, 'c', 'Volcanoes of Iceland', true)"))
    found = search(server, query="volcanoes of iceland", top_k=1).json()["result"]["matches"]
    assert [match["id"] for match in found] == [9]
