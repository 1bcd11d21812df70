"""The audit trail: what it holds, exactly once, and that nothing can be done to it unnoticed."""

import asyncio
import hashlib
import json
import os
import random
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import pytest

from lakemesh.governance.audit import verify
from lakemesh.lakehouse import embedded
from lakemesh.spool import Spool, SpoolUnavailable
from lakemesh.telemetry.audit_chain import Signer, signature_of
from tests.cli.test_startup import run
from tests.governance.doors import DOORS, headers_of
from tests.server import running_server, write_config

KEY = b"a key of sixteen or more"
AGENTS = "".join(
    f"  {name}: {{class: 'tests.governance.agents:{kind}', expose: [api, mcp, a2a]}}\n"
    for name, kind in {"doer": "Doer", "middleman": "Middleman", "locked": "Doer"}.items()
)
ANCHORS = "/Volumes/main/audit/anchors"
MORE = f"""
policies:
  rules:
    all: {{read: ["main.**"], call: ["**"]}}
    not-here: {{effect: deny, read: [main.hr.**]}}
    not-by-others: {{effect: deny, who: {{agents: [middleman]}}, call: [locked]}}
audit: {{enabled: true, key: "{KEY.decode()}", anchors: {ANCHORS}}}
a2a: {{enabled: true}}
auth: {{tokens: [{{user: ann, sha256: {hashlib.sha256(b"token-ann").hexdigest()}}}]}}
"""
ALLOWED_DOER = ["call doer", "allow", "all", 1]
TAMPERINGS = int(os.environ.get("LAKEMESH_TAMPERINGS", "200"))


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two servers, one after the other, that were asked through every door."""
    root = tmp_path_factory.mktemp("audited")
    folder = write_config(root / "config", AGENTS, more=MORE)
    for _ in range(2):
        with running_server(root / "home", folder) as server, httpx.Client(base_url=server.url, timeout=30) as client:
            for door in DOORS.values():
                door(client, "token-ann", "doer", {"do": "say", "what": "hello"})
                door(client, "token-ann", "doer", {"do": "read_table", "what": "main.hr.people"})
            inner = {"agent": "doer", "data": {"do": "query", "what": "SELECT * FROM range(3)"}}
            DOORS["rest"](client, "token-ann", "middleman", inner)
            DOORS["rest"](client, "token-ann", "middleman", {"agent": "locked", "data": {"do": "say"}})
            DOORS["rest"](client, "token-ann", "missing", {})
            assert client.post("/api/execute", json={}, headers=headers_of("wrong")).status_code == 401
    return root


@pytest.fixture(scope="module")
def rows(root: Path) -> list[dict[str, Any]]:
    async def read() -> list[dict[str, Any]]:
        workspace = await embedded.open_workspace(root / "home", mounts={}, database=None)
        found = await workspace.warehouse.query("SELECT * FROM main.agents.audit ORDER BY chain, sequence")
        await workspace.close()
        return found.to_dicts()

    return asyncio.run(read())


def test_each_execution_is_there_once_with_what_was_decided(rows: list[dict[str, Any]]) -> None:
    executions = [row for row in rows if row["kind"] == "execution"]
    assert len(executions) == len({row["execution_id"] for row in executions}) == 2 * (2 * len(DOORS) + 3)
    denied = [row for row in executions if row["outcome"] == "policy_denied"]
    decided = [json.loads(row["details"])["decisions"] for row in denied]
    assert decided.count([ALLOWED_DOER, ["read main.hr.people", "deny", "not-here", 1]]) == 2 * len(DOORS)
    nested = [["call middleman", "allow", "all", 1], ["call locked", "deny", "not-by-others", 1]]
    assert decided.count(nested) == 2, "what an agent was refused is told where its own run is"
    assert len(denied) == 2 * len(DOORS) + 2
    refusals = [row for row in rows if row["kind"] == "refusal"]
    assert {(row["subject"], row["outcome"]) for row in refusals} == {("missing", "unknown_agent")}


def test_the_trail_is_whole_and_names_its_writers(root: Path, rows: list[dict[str, Any]]) -> None:
    assert verify(rows, key=KEY) == []
    assert len({row["chain"] for row in rows}) == 2, "each process writes a chain of its own"
    answer = run(root, "audit", "verify", LAKEMESH_HOME=str(root / "home"))
    assert answer.stdout.strip() == f"{len(rows)} records in 2 chains, 2 anchors: whole", answer.stderr


def test_who_has_another_key_has_no_trail(rows: list[dict[str, Any]]) -> None:
    assert len(verify(rows, key=b"another")) == len(rows)


def anchors_of(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    from lakemesh.governance.audit import anchor_of
    from lakemesh.telemetry.audit_chain import Head

    last = {row["chain"]: row for row in rows}
    return [anchor_of(Head(chain, row["sequence"], row["hash"]), KEY) for chain, row in last.items()]


def edit(rows: list[dict[str, Any]], dice: random.Random) -> None:
    row = dice.choice(rows)
    name = dice.choice(
        ["actor", "outcome", "subject", "details", "kind", "time_unix_nano", "signature", "hash", "rule"]
    )
    row[name] = row[name] + 1 if isinstance(row[name], int) else f"{row[name]}x"


def delete(rows: list[dict[str, Any]], dice: random.Random) -> None:
    rows.remove(dice.choice(rows))


def truncate(rows: list[dict[str, Any]], dice: random.Random) -> None:
    del rows[len(rows) - dice.randint(1, 5) :]


def remove_chain(rows: list[dict[str, Any]], dice: random.Random) -> None:
    chain = dice.choice(rows)["chain"]
    rows[:] = [row for row in rows if row["chain"] != chain]


def exchange(rows: list[dict[str, Any]], dice: random.Random) -> None:
    one, other = dice.sample(rows, 2)
    one["sequence"], other["sequence"] = other["sequence"], one["sequence"]
    one["chain"], other["chain"] = other["chain"], one["chain"]


def replay(rows: list[dict[str, Any]], dice: random.Random) -> None:
    rows.append(dict(dice.choice(rows)))


def fork(rows: list[dict[str, Any]], dice: random.Random) -> None:
    """A record beside another, hashed right and not signed, since the key is not there."""
    from lakemesh.telemetry.audit_chain import hash_of

    row = dict(dice.choice(rows), subject="forged")
    row["hash"] = hash_of(row)
    rows.append(row)


def rewrite(rows: list[dict[str, Any]], dice: random.Random) -> None:
    """A whole chain from one record on, hashed anew."""
    from lakemesh.telemetry.audit_chain import hash_of

    chain = dice.choice(rows)["chain"]
    own = [row for row in rows if row["chain"] == chain]
    start = dice.randrange(len(own))
    own[start]["outcome"] = "forged"
    for before, row in zip([None, *own], own, strict=False):
        if before is not None:
            row["previous_hash"] = before["hash"]
        row["hash"] = hash_of(row)


@pytest.mark.parametrize("length", [0, 1, 64, 65, 300])
def test_signatures_are_the_standard_librarys(length: int) -> None:
    key = random.Random(length).randbytes(length)
    assert Signer(key)("a" * 64) == signature_of(key, "a" * 64)


WAYS = [edit, delete, truncate, remove_chain, exchange, replay, fork, rewrite]


def test_no_tampering_goes_unnoticed(rows: list[dict[str, Any]]) -> None:
    anchors, dice = anchors_of(rows), random.Random(7)
    assert verify(rows, key=KEY, anchors=anchors) == []
    for number in range(TAMPERINGS):
        changed = [dict(row) for row in rows]
        way = WAYS[number % len(WAYS)]
        way(changed, dice)
        assert verify(changed, key=KEY, anchors=anchors), (number, way.__name__)


def test_what_was_changed_in_the_table_is_found_by_the_command(root: Path, rows: list[dict[str, Any]]) -> None:
    async def change() -> None:
        workspace = await embedded.open_workspace(root / "home", mounts={}, database=None)
        statement = "UPDATE main.agents.audit SET actor = 'eve' WHERE hash = :hash"
        await workspace.warehouse.query(statement, {"hash": rows[3]["hash"]}, read_only=False)
        await workspace.close()

    asyncio.run(change())
    answer = run(root, "audit", "verify", LAKEMESH_HOME=str(root / "home"))
    assert answer.returncode == 1
    assert f"{rows[3]['chain']} at {rows[3]['sequence']}: it was changed" in answer.stderr
    found = run(root, "audit", "search", "--actor", "eve", LAKEMESH_HOME=str(root / "home")).stdout
    assert len(found.splitlines()) == 1


def test_what_cannot_be_told_is_not_done(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> None:
        raise SpoolUnavailable("The disk is full.")

    def ask(client: httpx.Client) -> int:
        body = {"agent": "doer", "data": {"do": "say", "what": "hello"}}
        return client.post("/api/execute", json=body, headers=headers_of("token-ann")).status_code

    folder = write_config(tmp_path / "config", AGENTS, more=MORE)
    with running_server(tmp_path / "home", folder) as server, httpx.Client(base_url=server.url, timeout=30) as client:
        assert ask(client) == 200
        with monkeypatch.context() as broken:
            broken.setattr(Spool, "put_all", fail)
            until(lambda: ask(client) == 503)
        until(lambda: ask(client) == 200)
    answer = run(tmp_path, "audit", "verify", LAKEMESH_HOME=str(tmp_path / "home"))
    assert "in 1 chains, 1 anchors: whole" in answer.stdout, answer.stderr


def test_of_an_erased_person_nothing_can_be_told_and_the_chain_is_whole(tmp_path: Path) -> None:
    """Names and details are under keys of each person's own; the erasure destroys the keys, here and in the files."""
    users = {"ann": "token-ann", "zoe-of-the-lake": "token-zoe"}
    tokens = [{"user": user, "sha256": hashlib.sha256(token.encode()).hexdigest()} for user, token in users.items()]
    more = f"""
audit: {{enabled: true, sealed: true, key: "{KEY.decode()}", anchors: {ANCHORS}}}
auth: {{tokens: {json.dumps(tokens)}}}
"""
    folder = write_config(tmp_path / "config", AGENTS, more=more)

    def searched(actor: str) -> list[dict[str, Any]]:
        lines = run(tmp_path, "audit", "search", "--actor", actor, LAKEMESH_HOME=str(tmp_path / "home")).stdout
        return [json.loads(line) for line in lines.splitlines()]

    with running_server(tmp_path / "home", folder) as server, httpx.Client(base_url=server.url, timeout=60) as client:
        for token in users.values():
            body = {"agent": "doer", "data": {"do": "say", "what": "hello"}, "session_id": f"session of {token}"}
            assert client.post("/api/execute", json=body, headers=headers_of(token)).status_code == 200
        until(lambda: len(searched("zoe-of-the-lake")) == 1)
        (before,) = searched("zoe-of-the-lake")
        assert json.loads(before["details"])["session"] == "session of token-zoe"
        erased = client.post("/api/me/erase", json={"confirm": True}, headers=headers_of("token-zoe"))
        assert erased.status_code == 200, erased.text
        assert erased.json()["complete"]
        until(lambda: "erasure" in {row["kind"] for row in searched("server")})
    assert searched("zoe-of-the-lake") == []
    (other,) = searched("ann")
    assert json.loads(other["details"])["session"] == "session of token-ann"
    answer = run(tmp_path, "audit", "verify", LAKEMESH_HOME=str(tmp_path / "home"))
    assert "1 anchors: whole" in answer.stdout, answer.stderr
    content = b"".join(file.read_bytes() for file in (tmp_path / "home/tables").rglob("*") if file.is_file())
    assert b"zoe-of-the-lake" not in content


def test_changes_of_the_server_itself_are_in_the_trail(tmp_path: Path) -> None:
    """Starts, prompts and configurations, with what came into force."""
    folder = write_config(tmp_path / "config", AGENTS, more=f"{MORE}prompts: {{refresh_seconds: 0.1}}\n")
    (folder / "prompts/hello_v1.txt").write_text("one")

    def kinds() -> dict[str, Any]:
        lines = run(tmp_path, "audit", "search", "--actor", "server", LAKEMESH_HOME=str(tmp_path / "home")).stdout
        return {one["kind"]: one for one in map(json.loads, lines.splitlines())}

    with running_server(tmp_path / "home", folder):
        (folder / "prompts/hello_v2.txt").write_text("two")
        until(lambda: {"deployment", "prompt"} <= kinds().keys())
    found = kinds()
    assert json.loads(found["deployment"]["details"])["prompts"] == {"hello": [1]}
    assert found["prompt"]["subject"] == "hello"
    assert json.loads(found["prompt"]["details"])["versions"]["2"] == hashlib.sha256(b"two").hexdigest()


def until(condition: Callable[[], bool]) -> None:
    end = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < end, "it did not happen"
        time.sleep(0.05)
