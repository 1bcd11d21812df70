"""The ports that only a real workspace has: functions, Genie, jobs, secrets; and the emulator's other routes."""

import pyarrow as pa
import pytest

from lakemesh.config.store import ConfigStore
from lakemesh.errors import Cancelled, ConfigurationInvalid, InvalidRequest, NotFound, Unavailable
from lakemesh.lakehouse.databricks import tables
from lakemesh.lakehouse.tables import AppTransaction, Column, TableSpec
from lakemesh.lakehouse.workspace import Workspace
from tests.emulator.served import Emulator
from tests.server import MODELS

pytestmark = pytest.mark.anyio


async def test_functions_are_described_and_executed(workspace: Workspace) -> None:
    functions = workspace.functions
    assert functions is not None
    await workspace.warehouse.query(
        "CREATE OR REPLACE FUNCTION main.tools.scaled(amount DOUBLE, factor DOUBLE) RETURNS DOUBLE "
        "COMMENT 'Scales.' RETURN amount * factor",
        read_only=False,
    )
    described = await functions.describe("main.tools.scaled")
    assert [(item.name, item.type) for item in described.parameters] == [("amount", "DOUBLE"), ("factor", "DOUBLE")]
    assert (described.returns, described.comment) == ("DOUBLE", "Scales.")
    assert [item.name for item in await functions.list_functions("main.tools")] == ["main.tools.scaled"]
    result = await functions.execute("main.tools.scaled", {"factor": 2.0, "amount": 1.5})
    assert result.rows == [(3.0,)]
    with pytest.raises(InvalidRequest):
        await functions.execute("main.tools.scaled", {"nothing": 1})
    with pytest.raises(NotFound):
        await functions.execute("main.tools.missing", {})


async def test_genie_answers_follows_up_and_fails(workspace: Workspace) -> None:
    genie = workspace.genie
    assert genie is not None
    answer = await genie.ask("space", "How many are there?")
    assert answer.text == "Counted."
    assert answer.queries[0].statement.startswith("SELECT 42")
    rows = await genie.fetch_rows("space", answer, answer.queries[0])
    assert rows.to_dicts() == [{"n": 42, "name": "x"}]
    again = await genie.ask("space", "And how many now?", conversation_id=answer.conversation_id)
    assert again.conversation_id == answer.conversation_id
    assert again.message_id != answer.message_id
    with pytest.raises(Unavailable):
        await genie.ask("space", "Please fail.")
    with pytest.raises(Cancelled):
        await genie.ask("space", "Please cancel.")
    with pytest.raises(NotFound):
        await genie.ask("no-space", "Anything?")


async def test_notes_of_writers_that_are_gone_leave_the_staging_volume(
    workspace: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A server whose disk does not outlive it is a new application with every start."""
    name, staged = "main.tools.written", "/Volumes/main/tools/lakemesh_staging/written"
    await workspace.tables.create(TableSpec(name=name, columns=[Column("id", "BIGINT")]))
    for app_id in ("gone", "interrupted"):
        await workspace.tables.append(name, pa.table({"id": [1]}), transaction=AppTransaction(app_id, 1))
    await workspace.volumes.write(f"{staged}/interrupted/{2:020d}.parquet", b"staged and not loaded")
    await workspace.tables.vacuum(name, retention_hours=168)
    assert {entry.name for entry in await workspace.volumes.list_directory(staged)} == {"gone", "interrupted"}
    monkeypatch.setattr(tables, "WRITER_DAYS", -1.0)  # everything is older than that
    await workspace.tables.vacuum(name, retention_hours=168)
    assert [entry.name for entry in await workspace.volumes.list_directory(staged)] == ["interrupted"]
    await workspace.tables.drop(name)


async def test_secrets(workspace: Workspace, emulator: Emulator) -> None:
    secrets = workspace.secrets
    assert secrets is not None
    emulator.call("POST", "/api/2.0/secrets/scopes/create", {"scope": "app"})
    body = {"scope": "app", "key": "k", "string_value": "s3cret ü"}
    emulator.call("POST", "/api/2.0/secrets/put", body).raise_for_status()
    assert await secrets.get("app", "k") == "s3cret ü"
    with pytest.raises(NotFound):
        await secrets.get("app", "missing")


async def test_merge_inserts_what_is_new(workspace: Workspace) -> None:
    run = workspace.warehouse.query
    await run("CREATE TABLE IF NOT EXISTS main.merged.t (id BIGINT, note STRING)", read_only=False)
    merge = (
        "MERGE INTO main.merged.t AS t USING (SELECT 1 AS id, 'a' AS note UNION ALL SELECT 2, 'b') AS s "
        "ON t.id = s.id WHEN NOT MATCHED THEN INSERT *"
    )
    await run(merge, read_only=False)
    await run(merge, read_only=False)
    rows = await run("SELECT * FROM main.merged.t ORDER BY id")
    assert rows.rows == [(1, "a"), (2, "b")]


async def test_catalogs_schemas_and_volumes_through_the_sdk(emulator: Emulator) -> None:
    from databricks.sdk import WorkspaceClient
    from databricks.sdk.errors import AlreadyExists, NotFound, ResourceConflict
    from databricks.sdk.service.catalog import VolumeType

    client = WorkspaceClient(host=emulator.url, token="emulator-token", auth_type="pat")
    client.catalogs.create("shop")
    client.schemas.create("agents", "shop")
    volume = client.volumes.create("shop", "agents", "configs", VolumeType.MANAGED)
    assert volume.full_name == "shop.agents.configs"
    assert [item.name for item in client.volumes.list("shop", "agents")] == ["configs"]
    with pytest.raises((AlreadyExists, ResourceConflict)):
        client.catalogs.create("shop")
    with pytest.raises(NotFound):
        client.schemas.get("shop.nothing")
    with pytest.raises(NotFound):
        client.schemas.create("s", "no_such_catalog")


async def test_configuration_names_secrets(workspace: Workspace, emulator: Emulator) -> None:
    """`${secrets.scope.key}`, read through the port: as text, and a fault that names no value when it is not there."""
    for call, body in (
        ("scopes/create", {"scope": "config"}),
        ("put", {"scope": "config", "key": "name", "string_value": "0042"}),
    ):
        emulator.call("POST", f"/api/2.0/secrets/{call}", body).raise_for_status()
    path = "/Volumes/main/secrets/configs/lakemesh.yaml"
    text = "agents: {echo: {class: 'lakemesh.agents.echo:EchoAgent'}}\n" + MODELS
    text += "\ntelemetry: {service_name: '${secrets.config.name}', schema: '${secrets.config.none:-agents}'}\n"
    await workspace.volumes.write(path, text.encode(), overwrite=True)
    store = ConfigStore(path, "dev", read=workspace.volumes.read, variables={}, secrets=workspace.read_secret)
    loaded = await store.load()
    assert (loaded.telemetry.service_name, loaded.telemetry.schema_name) == ("0042", "agents")
    await workspace.volumes.write(path, text.replace(":-agents", "").encode(), overwrite=True)
    with pytest.raises(ConfigurationInvalid) as refused:
        await store.load()
    assert refused.value.errors == ["lakemesh.yaml: telemetry.schema: the secret secrets.config.none is not set"]
