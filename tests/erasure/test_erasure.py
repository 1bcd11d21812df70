"""One of many users is erased: no row, vector, event or file has anything of them afterwards, and nobody else lost a
word."""

import asyncio
import hashlib
import json
import os
import uuid
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import psycopg
import pyarrow.parquet as pq
import pytest
from deltalake import DeltaTable

from lakemesh.composition.services import Services, open_services
from lakemesh.config.settings import Settings
from lakemesh.erasure.certificate import digest_of
from lakemesh.invocations import NewInvocation
from lakemesh.memory.extraction import Statement
from lakemesh.schemas import AgentInput, Identity
from tests import commands
from tests.server import running_server, write_config

USERS = 1_000
GONE, LAST = 500, 501
AGENTS = """  echo: {class: echo}
  worker: {class: "tests.invocations.agents:Worker"}"""
MORE = """
telemetry: {{capture_content: true}}
server: {{operators: [{operator}]}}
budgets: {{limits: {{each: {{per: user, period: month, calls: 100000}}}}}}
auth: {{tokens: [{{user: "{user}", sha256: {user_hash}}}, {{user: {operator}, sha256: {operator_hash}}}]}}
"""


def name_of(number: int) -> str:
    return f"user-{number:04d}@example.com"


def secret_of(number: int) -> str:
    return f"zebra{number:04d}"


def hashed(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


@contextmanager
def database_of_its_own(postgres: str) -> Iterator[str]:
    name = f"erasure_{uuid.uuid4().hex[:8]}"
    with psycopg.connect(postgres, autocommit=True) as connection:
        connection.execute(f"CREATE DATABASE {name}")
        yield postgres.replace("/postgres?", f"/{name}?")
        connection.execute(f"DROP DATABASE {name} WITH (FORCE)")


async def live(services: Services, number: int) -> None:
    """What a user leaves everywhere."""
    user, secret = name_of(number), secret_of(number)
    identity = Identity(user=user)
    assert services.invocations is not None
    assert services.parts.knowledge is not None
    await services.memory.remember(f"They said {secret}.", agent_id="echo", user=user, metadata={"word": secret})
    await services.parts.sessions.keep(
        agent="echo", user=user, session_id="s", messages=[{"role": "user", "content": secret}]
    )
    request = AgentInput(agent_name="echo", data={"message": secret}, idempotency_key=f"key-{number}")
    await services.router.execute(request, identity=identity)
    new = NewInvocation(id=uuid.uuid4(), agent_name="worker", input={"text": secret, "pieces": 1}, session_id="s")
    await services.invocations.wait(await services.invocations.submit(new, identity))
    if number % 10 == 0 or number == LAST:
        statement = Statement(kind="fact", text=f"The user says {secret}.", confidence=0.9)
        await services.parts.knowledge.state(statement, namespace="echo", user=user)


async def fill(home: Path, config: Path, database: str) -> None:
    settings = Settings(home=home, config_folder=config, database=database)
    async with open_services(settings) as services:
        places = asyncio.Semaphore(32)

        async def one(number: int) -> None:
            async with places:
                await live(services, number)

        await asyncio.gather(*(one(number) for number in range(USERS)))
        assert await services.memory.flush()
        assert await services.telemetry.flush()


def dumped(database: str) -> dict[str, list[str]]:
    """Every row of every table of ours, as text."""
    with psycopg.connect(database) as connection:
        names = connection.execute("SELECT table_name FROM information_schema.tables WHERE table_schema = 'lakemesh'")
        return {
            name: [row[0] for row in connection.execute(f'SELECT kept::text FROM lakemesh."{name}" AS kept')]
            for (name,) in names.fetchall()
        }


def files_with(home: Path, *words: str) -> list[str]:
    """Files that hold one of the words, in their bytes or, of Parquet, in what they say."""
    found = []
    for file in sorted(path for path in home.rglob("*") if path.is_file()):
        text = str(pq.read_table(file).to_pydict()) if file.suffix == ".parquet" else ""
        content = file.read_bytes()
        found += [f"{file.relative_to(home)}: {word}" for word in words if word.encode() in content or word in text]
    return found


def per_user(home: Path, table: str, column: str) -> Counter[str]:
    rows = DeltaTable(home / "tables/main/agents" / table).to_pyarrow_table(columns=[column])
    return Counter(rows[column].to_pylist())


@pytest.fixture(scope="module")
def erased(tmp_path_factory: pytest.TempPathFactory, postgres: str) -> Iterator[dict[str, Any]]:
    root = tmp_path_factory.mktemp("erasure")
    user = name_of(GONE)
    more = MORE.format(user=user, user_hash=hashed("theirs"), operator="root", operator_hash=hashed("root"))
    config, home = write_config(root / "config", AGENTS, more), root / "home"
    with database_of_its_own(postgres) as database:
        asyncio.run(fill(home, config, database))
        before = {"dump": dumped(database), "files": files_with(home, secret_of(GONE), user)}
        before["memories"] = per_user(home, "memory", "user")
        before["executions"] = per_user(home, "agent_executions", "user_id")
        with (
            running_server(home, config, database=database) as server,
            httpx.Client(base_url=server.url, timeout=120, headers={"authorization": "Bearer theirs"}) as client,
        ):
            refused = [
                client.post("/api/me/erase", json={"user": name_of(LAST), "confirm": True}),
                client.post("/api/me/erase", json={"confirm": False}),
            ]
            facts = client.get("/api/me/facts").json()["facts"]
            exported = [json.loads(line) for line in client.get("/api/me/export").text.splitlines()]
            answer = client.post("/api/me/erase", json={"confirm": True})
        yield {
            "refused": [one.status_code for one in refused],
            "facts": facts,
            "exported": exported,
            "answer": answer,
            "before": before,
            "home": home,
            "config": config,
            "database": database,
        }


def test_the_certificate_says_what_was_found_and_that_nothing_is_left(erased: dict[str, Any]) -> None:
    assert erased["refused"] == [403, 403]
    assert [fact["text"] for fact in erased["facts"]] == [f"The user says {secret_of(GONE)}."]
    assert erased["answer"].status_code == 200, erased["answer"].text
    certificate = erased["answer"].json()
    found = {one["place"]: one["before"] for one in certificate["findings"]}
    for place in (
        "sessions",
        "memory: table",
        "memory: index",
        "memory: facts",
        'database: lakemesh."invocations"',
        'database: lakemesh."idempotency"',
        "telemetry: main.agents.agent_executions",
        "telemetry: main.agents.lakemesh_otel_spans",
    ):
        assert found[place] > 0, place
    assert {one["after"] for one in certificate["findings"]} == {0}
    assert certificate["complete"]
    assert (certificate["found_by_meaning"], certificate["mentions"]) == (0, 0)
    digest = certificate.pop("digest")
    assert digest_of(certificate) == digest


def test_before_that_the_user_took_everything_along(erased: dict[str, Any]) -> None:
    exported = erased["exported"]
    assert sorted(one["kind"] for one in exported) == ["fact", "memory", "session"]
    assert all(secret_of(GONE) in json.dumps(one) for one in exported)


def test_no_row_and_no_file_has_anything_of_them(erased: dict[str, Any]) -> None:
    assert erased["before"]["files"]
    words = (secret_of(GONE), name_of(GONE))
    assert [row for rows in erased["before"]["dump"].values() for row in rows if words[0] in row]
    dump = dumped(erased["database"])
    assert [f"{name}: {row}" for name, rows in dump.items() for row in rows if any(word in row for word in words)] == []
    assert files_with(erased["home"], *words) == []


def test_nobody_else_lost_anything(erased: dict[str, Any]) -> None:
    words = (secret_of(GONE), name_of(GONE))
    for name, rows in dumped(erased["database"]).items():
        if name in ("workers", "rate_counts", "leases"):
            continue  # of the servers, not of users
        # What refers to an invocation by its number alone went with it.
        theirs = {number_of(row) for row in erased["before"]["dump"]["invocations"] if words[0] in row}
        kept = [row for row in erased["before"]["dump"][name] if not any(word in row for word in words)]
        if name in ("invocation_events", "invocation_questions"):
            kept = [row for row in kept if number_of(row) not in theirs]
        if name == "fact_vectors":
            assert len(rows) == len(kept) - 1
            continue
        assert sorted(rows) == sorted(kept), name
    for table, column, before in (("memory", "user", "memories"), ("agent_executions", "user_id", "executions")):
        expected = erased["before"][before] - Counter({name_of(GONE): 10**6})
        assert per_user(erased["home"], table, column) == expected


def number_of(row: str) -> str:
    return row.removeprefix("(").partition(",")[0]


def test_the_command_erases_too_and_a_second_time_finds_nothing(erased: dict[str, Any], tmp_path: Path) -> None:
    file = tmp_path / "certificate.json"
    environment = {
        **os.environ,
        "LAKEMESH_HOME": str(erased["home"]),
        "LAKEMESH_CONFIG_FOLDER": str(erased["config"]),
        "LAKEMESH_DATABASE": erased["database"],
    }
    arguments = ["memory", "erase", name_of(LAST), "--yes", "--scrub", "--certificate", str(file)]
    for found in (True, False):
        done = commands.run(*arguments, cwd=tmp_path, environment=environment)
        assert done.returncode == 0, done.stderr
        certificate = json.loads(file.read_text())
        assert certificate["complete"]
        assert any(one["before"] for one in certificate["findings"]) == found
    assert files_with(erased["home"], secret_of(LAST), name_of(LAST)) == []
