"""PostgreSQL behind `Workspace.database`: the laptop's own server, and Lakebase with the emulator's credentials."""

import asyncio
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import psycopg
import pytest

from lakemesh.errors import ConfigurationInvalid, DatabaseUnavailable
from lakemesh.lakehouse import databricks, embedded
from lakemesh.lakehouse.database import Database, Migration
from lakemesh.lakehouse.notifications import notify
from lakemesh.lakehouse.workspace import Workspace
from tests.emulator.served import Emulator, serve


@pytest.fixture(scope="module")
def home() -> Iterator[Path]:
    """A Unix socket's path is short, so this does not live in pytest's folder."""
    with tempfile.TemporaryDirectory(prefix="lm") as folder:
        yield Path(folder)


@pytest.fixture(scope="module")
def emulator() -> Iterator[Emulator]:
    with tempfile.TemporaryDirectory(prefix="lm") as folder, serve(Path(folder)) as emulator:
        yield emulator


@pytest.fixture(params=["embedded", "databricks"])
async def workspace(
    request: pytest.FixtureRequest, home: Path, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[Workspace]:
    if request.param == "embedded":
        opened = await embedded.open_workspace(home, database="embedded")
    else:
        emulator: Emulator = request.getfixturevalue("emulator")
        if emulator.call("GET", "/api/2.0/database/instances/agents").status_code == 404:
            emulator.call("POST", "/api/2.0/database/instances", {"name": "agents"}).raise_for_status()
        monkeypatch.setenv("PGPORT", str(emulator.call("GET", "/emulator/lakebase").json()["port"]))
        opened = await databricks.open_workspace(emulator.settings(lakebase_instance="agents"))
    yield opened
    await opened.close()


@pytest.fixture
async def database(workspace: Workspace) -> Database:
    assert workspace.database is not None
    await workspace.database.execute("DROP SCHEMA IF EXISTS lakemesh CASCADE")
    await workspace.database.execute("DROP SCHEMA IF EXISTS test CASCADE")
    await workspace.database.execute("CREATE SCHEMA test")
    return workspace.database


COUNTERS = Migration(1, "CREATE TABLE test.counters (name text PRIMARY KEY, value integer NOT NULL)")


async def test_statements_and_transactions(database: Database) -> None:
    await database.execute(COUNTERS.statements)
    async with database.transaction() as connection:
        await connection.execute("INSERT INTO test.counters VALUES ('kept', 1)")

    async def fail_half_way(connection: psycopg.AsyncConnection) -> None:
        await connection.execute("INSERT INTO test.counters VALUES ('rolled back', 1)")
        await connection.execute("INSERT INTO test.counters VALUES ('kept', 2)")

    with pytest.raises(psycopg.errors.UniqueViolation):
        await database.transact(fail_half_way)
    with pytest.raises(psycopg.errors.UniqueViolation):
        await database.execute("INSERT INTO test.counters VALUES (%s, %s)", ("kept", 2))
    assert await database.fetch("SELECT name, value FROM test.counters") == [("kept", 1)]
    assert database.health()["degraded"] is None


async def test_transactions_that_collide_are_repeated(database: Database) -> None:
    await database.execute(COUNTERS.statements)
    await database.execute("INSERT INTO test.counters VALUES ('n', 0)")

    async def add_one(connection: psycopg.AsyncConnection) -> None:
        await connection.execute("SET TRANSACTION ISOLATION LEVEL SERIALIZABLE")
        row = await (await connection.execute("SELECT value FROM test.counters WHERE name = 'n'")).fetchone()
        assert row is not None
        await connection.execute("UPDATE test.counters SET value = %s WHERE name = 'n'", (row[0] + 1,))

    await asyncio.gather(*(database.transact(add_one) for _ in range(4)))
    assert await database.fetch("SELECT value FROM test.counters") == [(4,)]


async def test_migrations_run_once_however_many_replicas_start(database: Database) -> None:
    later = Migration(2, "ALTER TABLE test.counters ADD COLUMN note text")
    await asyncio.gather(*(database.migrate("test", [COUNTERS]) for _ in range(8)))
    await database.migrate("test", [COUNTERS, later])
    await database.execute("INSERT INTO test.counters VALUES ('n', 0, 'new column')")
    with pytest.raises(ConfigurationInvalid, match="not the one that was applied"):
        await database.migrate("test", [Migration(1, "CREATE TABLE test.counters ()")])


async def test_a_failing_migration_leaves_nothing_behind(database: Database) -> None:
    with pytest.raises(psycopg.errors.SyntaxError):
        await database.migrate("test", [COUNTERS, Migration(2, "CREATE TABEL broken ()")])
    await database.migrate("test", [COUNTERS])


async def test_a_committed_notification_wakes_the_waiter_and_no_other(database: Database) -> None:
    with database.notifications.subscribe("run/1") as first, database.notifications.subscribe("run/2") as second:
        await asyncio.wait_for(database.notifications.listening(), 10)
        first.clear(), second.clear()
        async with database.transaction() as connection:
            await notify(connection, "run/1")
            assert not first.is_set()
        await asyncio.wait_for(first.wait(), 10)
        assert not second.is_set()


async def test_cut_connections_are_opened_again_and_waiters_look_again(database: Database) -> None:
    with database.notifications.subscribe("run/1") as woken:
        await asyncio.wait_for(database.notifications.listening(), 10)
        woken.clear()
        await database.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
            " WHERE application_name LIKE 'lakemesh%%' AND pid <> pg_backend_pid()"
        )
        with pytest.raises(DatabaseUnavailable):
            await database.execute("SELECT pg_terminate_backend(pg_backend_pid())")
        await asyncio.wait_for(woken.wait(), 20)
        assert await answer_again(database) == [(1,)]


async def answer_again(database: Database) -> list[tuple]:
    """A pool that lost its connections hands out a dead one at most once each before it asks for new ones."""
    end = time.monotonic() + 90
    while time.monotonic() < end:
        try:
            return await database.fetch("SELECT 1")
        except DatabaseUnavailable:
            await asyncio.sleep(0.1)
    raise AssertionError("the database stays away")


async def test_withdrawn_lakebase_credentials_are_asked_for_anew(
    emulator: Emulator, monkeypatch: pytest.MonkeyPatch
) -> None:
    emulator.call("POST", "/api/2.0/database/instances", {"name": "rotating"}).raise_for_status()
    monkeypatch.setenv("PGPORT", str(emulator.call("GET", "/emulator/lakebase").json()["port"]))
    opened = await databricks.open_workspace(emulator.settings(lakebase_instance="rotating"))
    assert opened.database is not None
    assert await opened.database.fetch("SELECT session_user") == [("emulator-client",)]
    assert emulator.call("DELETE", "/emulator/lakebase/credentials").json()["withdrawn"] >= 1
    assert await answer_again(opened.database) == [(1,)]
    await opened.close()


async def test_an_autoscaling_endpoint_is_found_by_its_path(
    emulator: Emulator, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PGPORT", str(emulator.call("GET", "/emulator/lakebase").json()["port"]))
    path = "projects/p/branches/main/endpoints/primary"
    opened = await databricks.open_workspace(emulator.settings(LAKEBASE_AUTOSCALING_ENDPOINT=path))
    assert opened.database is not None
    assert await opened.database.fetch("SELECT 1") == [(1,)]
    await opened.close()


async def test_a_killed_server_is_started_again(home: Path) -> None:
    opened = await embedded.open_workspace(home, database="embedded")
    assert opened.database is not None
    await opened.database.execute("CREATE TABLE IF NOT EXISTS public.survivors (n integer)")
    await opened.database.execute("INSERT INTO survivors VALUES (1)")
    os.kill(int((home / "postgres" / "postmaster.pid").read_text().split()[0]), signal.SIGKILL)
    assert await answer_again(opened.database) == [(1,)]
    assert await opened.database.fetch("SELECT count(*) > 0 FROM survivors") == [(True,)]
    await opened.close()


HOLD = """
import asyncio, sys
from pathlib import Path
from lakemesh.lakehouse.embedded import open_workspace

async def main():
    workspace = await open_workspace(Path(sys.argv[1]), database="embedded")
    print(await workspace.database.fetch("SELECT 1"), flush=True)
    sys.stdin.readline()
    await workspace.close()

asyncio.run(main())
"""


def test_the_last_process_stops_the_server_and_not_the_first(home: Path) -> None:
    first, second = (
        subprocess.Popen([sys.executable, "-c", HOLD, home], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        for _ in range(2)
    )
    pid_file = home / "postgres" / "postmaster.pid"
    assert first.stdout is not None
    assert second.stdout is not None
    assert [first.stdout.readline(), second.stdout.readline()] == ["[(1,)]\n", "[(1,)]\n"]
    first.communicate("\n", timeout=30)
    assert pid_file.exists()
    second.communicate("\n", timeout=30)
    assert not pid_file.exists()
