"""Two users with different rights ask at once, again and again: each sees only their own rows, and nobody's token is
kept anywhere."""

import asyncio
import os
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from lakemesh.emulator.accounts import Accounts
from lakemesh.emulator.genie import ScriptedAnswer, Space
from tests.emulator import served as made
from tests.emulator.served import Emulator, serve
from tests.server import MODELS, Server, running_server, write_config

ROUNDS = int(os.environ.get("LAKEMESH_TWO_USERS_ROUNDS", "4"))
AT_ONCE = 24
TOKENS = {user: f"dapi-{user}-0123456789abcdef" for user in ("ann", "bob")}
ROWS = {"ann": [["Oslo", 5], ["Rome", 3]], "bob": [["Rome", 4]]}
STATEMENTS = (
    "CREATE TABLE main.shop.stock (owner STRING, place STRING, pieces BIGINT)",
    "INSERT INTO main.shop.stock VALUES ('ann', 'Rome', 3), ('bob', 'Rome', 4), ('ann', 'Oslo', 5)",
)
GRANTS = (
    ("catalog", "main", "USE_CATALOG"),
    ("schema", "main.shop", "USE_SCHEMA"),
    ("table", "main.shop.stock", "SELECT"),
)
MINE = "SELECT place, pieces FROM main.shop.stock WHERE owner || '@example.com' = current_user() ORDER BY place"
SPACE = Space(space_id="stock", answers=[ScriptedAnswer(when="pieces", query=MINE)])
CONFIG = """
  analyst:
    class: analyst
    on_behalf_of_user: true
    timeout_seconds: 120
    options: {domains: {stock: {description: "Pieces in stock by place.", space_id: stock}}}
"""
TELEMETRY = """
telemetry: {capture_content: true, flush_seconds: 0.3, log_level: debug}
limits: {max_concurrency: 64}
"""


@pytest.fixture
def emulator(tmp_path: Path) -> Iterator[Emulator]:
    tokens = {made.TOKEN: "admin@example.com"} | {token: f"{user}@example.com" for user, token in TOKENS.items()}
    accounts = Accounts(tokens=tokens, principals=made.ACCOUNTS.principals)
    with serve(tmp_path / "emulator", accounts=accounts, spaces=[SPACE]) as running:
        for statement in STATEMENTS:
            query(running, statement)
        for level, where, privilege in GRANTS:
            changes = [{"principal": f"{user}@example.com", "add": [privilege]} for user in TOKENS]
            path = f"/api/2.1/unity-catalog/permissions/{level}/{where}"
            running.call("PATCH", path, {"changes": changes}).raise_for_status()
        config = f"agents:\n{CONFIG}\n{MODELS}\n{TELEMETRY}"
        file = f"{running.url}/api/2.0/fs/files/Volumes/main/agents/configs/lakemesh.yaml?overwrite=true"
        headers = {"authorization": f"Bearer {made.TOKEN}"}
        httpx.put(file, content=config, headers=headers).raise_for_status()
        yield running


def query(emulator: Emulator, statement: str) -> str:
    body = {"statement": statement, "warehouse_id": "emulator", "wait_timeout": "50s"}
    answer = emulator.call("POST", "/api/2.0/sql/statements", body)
    assert answer.json()["status"]["state"] == "SUCCEEDED", answer.text
    return answer.text


async def ask(client: httpx.AsyncClient, user: str, number: int) -> str:
    """A question and its follow-up, in a session that both users call the same."""
    headers = {"x-forwarded-user": f"{user}@example.com", "x-forwarded-access-token": TOKENS[user]}
    answers = []
    for question in ("pieces by place", "and what about those pieces?"):
        body = {"agent": "analyst", "data": {"question": question}, "session_id": f"session-{number}"}
        answer = await client.post("/api/execute", json=body, headers=headers)
        assert answer.status_code == 200, answer.text
        assert answer.json()["result"]["answers"][0]["rows"] == ROWS[user], answer.text
        answers.append(answer.text)
    return "".join(answers)


async def interleave(url: str) -> str:
    slots = asyncio.Semaphore(AT_ONCE)
    async with httpx.AsyncClient(base_url=url, timeout=120) as client:

        async def both(number: int) -> str:
            async with slots:
                return "".join(await asyncio.gather(ask(client, "ann", number), ask(client, "bob", number)))

        return "".join(await asyncio.gather(*(both(number) for number in range(ROUNDS))))


def test_each_sees_their_own_rows_and_no_token_is_kept(
    emulator: Emulator, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("DATABRICKS_APP_NAME", "mesh")
    monkeypatch.setenv("DATABRICKS_HOST", emulator.url)
    monkeypatch.setenv("DATABRICKS_CLIENT_ID", "emulator-client")
    monkeypatch.setenv("DATABRICKS_CLIENT_SECRET", "emulator-secret")
    monkeypatch.setenv("LAKEMESH_WAREHOUSE_ID", "emulator")
    write_config(tmp_path / "config", "")
    with running_server(tmp_path / "home", tmp_path / "config", workspace="databricks") as server:
        answers = asyncio.run(interleave(server.url))
        metrics = metrics_of(server)
    logs = capfd.readouterr()
    tables = ["agent_executions", "lakemesh_otel_spans", "lakemesh_otel_logs"]
    rows = {table: query(emulator, f"SELECT * FROM main.agents.{table} LIMIT 5000") for table in tables}
    assert "pieces by place" in rows["agent_executions"]
    kept = {"answers": answers, "metrics": metrics, "log": logs.out + logs.err, **rows} | files_below(tmp_path)
    found = [(name, user) for name, text in kept.items() for user, token in TOKENS.items() if token in text]
    assert found == []


def metrics_of(server: Server) -> str:
    headers = {"x-forwarded-user": "ann@example.com", "x-forwarded-access-token": TOKENS["ann"]}
    return "".join(httpx.get(server.url + path, headers=headers).text for path in ("/metrics", "/health/ready"))


def files_below(folder: Path) -> dict[str, str]:
    """Spool, journal, staged files, tables and logs of Delta, as they lie on disk."""
    return {str(file): file.read_bytes().decode("latin-1") for file in folder.rglob("*") if file.is_file()}
