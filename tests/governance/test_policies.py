"""Policies at every door: who may call, read, write, think and send, directly and by way of others."""

import hashlib
import json
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from tests.governance.doors import DOORS, by_rest, headers_of
from tests.governance.questions import (
    ADDRESS,
    AGENTS,
    FILES,
    MASKED,
    POLICIES,
    PRIVATE,
    PUBLIC,
    QUESTIONS,
    SALES,
    SECRET,
    TABLES,
    USERS,
    Call,
    errand,
    through_middleman,
)
from tests.judge import JUDGE
from tests.mcp.test_mcp import META, MODERN
from tests.server import running_server, write_config

MODELS = """
models:
  endpoints:
    offline: {serving_endpoint: offline, region: eu}
    far: {serving_endpoint: offline, model: far-model, region: us}
  routes:
    quality: {endpoints: [offline]}
    abroad: {endpoints: [far]}
    either: {endpoints: [far, offline]}
    embeddings: {endpoints: [offline]}
"""


@pytest.fixture(scope="module")
def client(tmp_path_factory: pytest.TempPathFactory) -> Iterator[httpx.Client]:
    root = tmp_path_factory.mktemp("policies")
    tokens = [
        {"user": user, "sha256": hashlib.sha256(f"token-{user}".encode()).hexdigest(), "groups": groups}
        for user, groups in USERS.items()
    ]
    doors = "a2a: {enabled: true}\nmcp: {schemas: [main.sales]}\n"
    more = f"auth: {{tokens: {json.dumps(tokens)}}}\npolicies: {json.dumps(POLICIES)}\n{doors}"
    folder = write_config(root / "config", AGENTS, more=more, models=MODELS)
    with running_server(root / "home", folder) as running:
        fill(root / "home")
        with httpx.Client(base_url=running.url, timeout=30) as client:
            yield client


def fill(home: Path) -> None:
    """Tables and files to read."""
    import asyncio

    from lakemesh.lakehouse import embedded

    async def make() -> None:
        workspace = await embedded.open_workspace(home, mounts={}, database=None)
        for name in TABLES:
            await workspace.warehouse.query(f"CREATE OR REPLACE TABLE {name} AS SELECT 1 AS id", read_only=False)
        for path in FILES:
            await workspace.volumes.write(path, b"content", overwrite=True)
        await workspace.close()

    asyncio.run(make())


def test_there_are_300_questions() -> None:
    assert len(QUESTIONS) * len(USERS) >= 300
    assert len({json.dumps(call) for call, _ in QUESTIONS.values()}) == len(QUESTIONS)


@pytest.mark.parametrize("question", QUESTIONS)
def test_the_answer_is_the_policies(client: httpx.Client, question: str) -> None:
    """Each caller at a door of their own, which changes from question to question; with LAKEMESH_JUDGE=1 all of them at
    every door."""
    (agent, data), allowed = QUESTIONS[question]
    place = list(QUESTIONS).index(question)
    for number, user in enumerate(USERS):
        for name in list(DOORS) if JUDGE else [list(DOORS)[(place + number) % len(DOORS)]]:
            code, said = DOORS[name](client, f"token-{user}", agent, data)
            assert (code == "answered") == (user in allowed), (user, name, code, said)
            if question in MASKED and name != "a2a":  # a task has the caller's own message in its history
                assert ADDRESS not in said


BYPASSES: dict[str, Call] = {
    "step out of public": errand("read_file", "/Volumes/main/public/../private/files/b.txt"),
    "step out, doubled": errand("read_file", "/Volumes/main/public//..//private/files/b.txt"),
    "step out, escaped": errand("read_file", "/Volumes/main/public/%2e%2e/private/files/b.txt"),
    "step out, escaped twice": errand("read_file", "/Volumes/main/public/%252e%252e/private/files/b.txt"),
    "step out, backwards": errand("read_file", "/Volumes/main/public/..\\private/files/b.txt"),
    "step out and in again": errand("read_file", "/Volumes/main/public/files/../../private/files/b.txt"),
    "by a scheme": errand("read_file", "dbfs:/Volumes/main/private/files/b.txt"),
    "by another scheme": errand("read_file", "file:///Volumes/main/private/files/b.txt"),
    "with a dot": errand("read_file", "/Volumes/./main/./private/files/b.txt"),
    "with a zero": errand("read_file", "/Volumes/main/private/files/b.txt\x00/Volumes/main/public/files/a.txt"),
    "without a slash": errand("read_file", "Volumes/main/private/files/b.txt"),
    "in other letters": errand("read_file", "/Volumes/main/ｐrivate/files/b.txt"),
    "a table in capitals": errand("read_table", SECRET.upper()),
    "a table in quotes": errand("read_table", "`main`.`sales`.`secret`"),
    "a table with spaces": errand("read_table", " main . sales . secret "),
    "an alias": errand("query", f"SELECT orders.id FROM {SECRET} AS orders"),
    "a name for it": errand("query", f"WITH orders AS (SELECT * FROM {SECRET}) SELECT * FROM orders"),
    "a comment within": errand("query", "SELECT * FROM main.sales./* orders */secret"),
    "a string for a name": errand("query", f"SELECT * FROM IDENTIFIER('{SECRET}')"),
    "a string in parts": errand("query", "SELECT * FROM IDENTIFIER('main.sales.' || 'secret')"),
    "TABLE": errand("query", f"TABLE {SECRET}"),
    "a union": errand("query", f"SELECT id FROM {SALES} UNION SELECT id FROM {SECRET}"),
    "an exists": errand("query", f"SELECT * FROM {SALES} WHERE EXISTS (SELECT 1 FROM {SECRET})"),
    "a second statement": errand("query", f"SELECT 1; SELECT * FROM {SECRET}"),
    "explained": errand("query", f"EXPLAIN SELECT * FROM {SECRET}"),
    "as of a version": errand("query", f"SELECT * FROM {SECRET} VERSION AS OF 0"),
    "its history": errand("query", f"DESCRIBE HISTORY {SECRET}"),
    "a view of it": errand("query", f"CREATE VIEW main.sales.seen AS SELECT * FROM {SECRET}"),
    "a copy of it": errand("query", f"CREATE TABLE main.sales.copied AS SELECT * FROM {SECRET}"),
    "by its files": errand("query", "SELECT * FROM delta.`/Volumes/main/private/files`"),
    "a file as text": errand("query", f"SELECT * FROM text.`{PRIVATE}`"),
    "a file by a function": errand("query", f"SELECT * FROM read_files('{PRIVATE}')"),
    "by another": through_middleman(errand("read_table", SECRET)),
    "by another's other": through_middleman(through_middleman(errand("read_table", SECRET))),
    "by the clerk": errand("read_table", SECRET, by="clerk"),
    "by whom one may not call": through_middleman(errand("say", by="hidden")),
    "by what was read before": through_middleman(errand("read_file", PRIVATE), errand("read_file", PUBLIC)),
}


@pytest.mark.parametrize("bypass", BYPASSES)
def test_no_way_round_leads_to_what_is_refused(client: httpx.Client, bypass: str) -> None:
    """Asked by an analyst, at every door."""
    agent, data = BYPASSES[bypass]
    for name, door in DOORS.items():
        code, said = door(client, "token-ann", agent, data)
        assert code != "answered", (name, said)


def test_resources_of_mcp_are_no_way_round(client: httpx.Client) -> None:
    def read(user: str, table: str) -> bool:
        params = {"_meta": META, "uri": f"lakemesh://tables/{table}"}
        body = {"jsonrpc": "2.0", "id": 1, "method": "resources/read", "params": params}
        routing = {"mcp-protocol-version": MODERN, "mcp-method": "resources/read", "mcp-name": params["uri"]}
        return "result" in client.post("/mcp", json=body, headers=headers_of(f"token-{user}") | routing).json()

    assert read("ann", SALES)
    assert read("bob", SECRET)
    for table in (SECRET, SECRET.upper(), "main.sales.`secret`", "main.sales. secret"):
        assert not read("ann", table)
        assert not read("eve", table)
    assert not read("eve", SALES)


@pytest.mark.parametrize("do", ["think", "predict"])
def test_no_way_to_a_model_passes_by_the_policies(client: httpx.Client, do: str) -> None:
    agent, data = errand(do, "abroad")
    assert by_rest(client, "token-ann", agent, data)[0] == "policy_denied"


def test_what_is_refused_says_by_which_rule(client: httpx.Client) -> None:
    agent, data = errand("read_table", SECRET)
    body = client.post("/api/execute", json={"agent": agent, "data": data}, headers=headers_of("token-ann")).json()
    assert (body["status"], body["code"], body["rule"]) == (403, "policy_denied", "secret-is-secret")


def test_addresses_are_masked_in_what_goes_out_and_no_piece_goes_before(client: httpx.Client) -> None:
    agent, data = errand("say", "write to ann@example.com")
    code, said = by_rest(client, "token-ann", agent, data)
    assert code == "answered"
    answer = json.loads(said)
    assert "ann@example.com" not in said
    assert answer["metadata"]["findings"] == ["mask-mail: personal data or secrets"]
    for name, door in DOORS.items():
        said = door(client, "token-ann", agent, data)[1]
        if name == "a2a":  # a task has the caller's own message in its history
            said = json.dumps(json.loads(said)["result"]["task"]["artifacts"])
        assert "ann@example.com" not in said


def test_agents_nobody_may_call_are_not_listed(client: httpx.Client) -> None:
    listed = client.get("/api/agents", headers=headers_of("token-ann")).json()["agents"]
    assert sorted(agent["name"] for agent in listed) == ["clerk", "doer", "middleman"]
