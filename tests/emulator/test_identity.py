"""On behalf of users: rights are theirs, and nobody's are taken for another's."""

import asyncio
import logging

import pyarrow as pa
import pytest

from lakemesh.errors import NotFound, PermissionDenied, Unauthenticated
from lakemesh.lakehouse.tables import Column, TableSpec
from lakemesh.lakehouse.workspace import Workspace
from lakemesh.schemas import Identity
from tests.emulator.served import Emulator

pytestmark = pytest.mark.anyio

ANN = Identity(user="ann@example.com", token="token-ann")
BOB = Identity(user="bob@example.com", token="token-bob")


def grant(emulator: Emulator, kind: str, name: str, principal: str, *privileges: str) -> None:
    """The privileges, and what it takes to use them: the catalog and the schema."""
    catalog, schema, _ = name.split(".")
    needed = [("catalog", catalog, ["USE_CATALOG"]), ("schema", f"{catalog}.{schema}", ["USE_SCHEMA"])]
    for level, where, held in (*needed, (kind, name, privileges)):
        changes = [{"principal": principal, "add": list(held)}]
        answer = emulator.call("PATCH", f"/api/2.1/unity-catalog/permissions/{level}/{where}", {"changes": changes})
        answer.raise_for_status()


@pytest.fixture
async def tables(workspace: Workspace, emulator: Emulator) -> None:
    for user in (ANN, BOB):
        name = f"main.people.{user.user.partition('@')[0]}"
        await workspace.tables.create(TableSpec(name=name, columns=[Column("owner", "STRING")]))
        if not (await workspace.warehouse.query(f"SELECT * FROM {name}")).rows:
            await workspace.tables.append(name, pa.table({"owner": [user.user]}))
        grant(emulator, "table", name, user.user, "SELECT")


async def test_each_sees_what_is_granted(workspace: Workspace, emulator: Emulator, tables: None) -> None:
    anns, bobs = await workspace.on_behalf_of(ANN), await workspace.on_behalf_of(BOB)
    assert await anns.tables.list_tables("main.people") == ["main.people.ann"]
    assert await bobs.tables.list_tables("main.people") == ["main.people.bob"]
    assert (await anns.warehouse.query("SELECT * FROM main.people.ann")).rows == [("ann@example.com",)]
    with pytest.raises(PermissionDenied):
        await anns.warehouse.query("SELECT * FROM main.people.bob")
    with pytest.raises(PermissionDenied):
        await bobs.tables.describe("main.people.ann")
    with pytest.raises(PermissionDenied):
        await bobs.volumes.read("/Volumes/main/people/files/x")


async def test_rights_on_a_volume(workspace: Workspace, emulator: Emulator) -> None:
    path = "/Volumes/main/people/shared/note"
    await workspace.volumes.write(path, b"hello", overwrite=True)
    grant(emulator, "volume", "main.people.shared", ANN.user, "READ_VOLUME")
    anns = await workspace.on_behalf_of(ANN)
    assert await anns.volumes.read(path) == b"hello"
    with pytest.raises(PermissionDenied):
        await anns.volumes.write(path, b"changed", overwrite=True)
    with pytest.raises(NotFound):
        await anns.volumes.read(path + "-missing")


async def test_interleaved_users_are_never_mixed_up(workspace: Workspace, emulator: Emulator, tables: None) -> None:
    """`benchmarks/workspace.py` does ten thousand; here the same in short."""
    mistakes = []

    async def ask(number: int) -> None:
        user = (ANN, BOB)[number % 2]
        theirs = await workspace.on_behalf_of(user)
        own = f"main.people.{user.user.partition('@')[0]}"
        if await theirs.tables.list_tables("main.people") != [own]:
            mistakes.append(number)

    for start in range(0, 600, 100):
        await asyncio.gather(*(ask(number) for number in range(start, start + 100)))
    assert mistakes == []


async def test_without_a_token_nobody_acts_for_a_user(workspace: Workspace) -> None:
    with pytest.raises(Unauthenticated):
        await workspace.on_behalf_of(Identity(user="ann@example.com"))


async def test_tokens_are_not_logged(workspace: Workspace, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    anns = await workspace.on_behalf_of(ANN)
    with pytest.raises(PermissionDenied):
        await anns.warehouse.query("SELECT * FROM main.people.bob")
    assert "token-ann" not in caplog.text + repr(anns) + repr(ANN)


async def test_the_warehouse_knows_who_asks(workspace: Workspace, emulator: Emulator) -> None:
    statement = "SELECT current_user(), session_user()"
    for user in (ANN, BOB):
        theirs = await workspace.on_behalf_of(user)
        assert (await theirs.warehouse.query(statement, read_only=False)).rows == [(user.user, user.user)]
