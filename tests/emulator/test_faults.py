"""Bad days of a workspace, through the real SDKs: what recovers, what fails as designed, and inside which time."""

import asyncio

import pyarrow as pa
import pytest

from lakemesh.deadline import Deadline
from lakemesh.errors import (
    Conflict,
    DeadlineExceeded,
    InvalidRequest,
    LakemeshError,
    NotFound,
    PermissionDenied,
    RateLimited,
    Unauthenticated,
    WorkspaceUnavailable,
)
from lakemesh.lakehouse import databricks
from lakemesh.lakehouse.endpoints import EndpointError
from lakemesh.lakehouse.indexes import IndexSpec
from lakemesh.lakehouse.tables import AppTransaction, Column, TableSpec
from lakemesh.lakehouse.workspace import Workspace
from lakemesh.schemas import Identity
from lakemesh.scope import ExecutionScope, execution_scope
from tests.emulator.served import Emulator, serve

pytestmark = pytest.mark.anyio

FILE = "/Volumes/main/faults/files/one"
FILES = "/api/2.0/fs/files.*"
STATEMENTS = "/api/2.0/sql/statements.*"


@pytest.fixture
async def file(workspace: Workspace, emulator: Emulator) -> str:
    await workspace.volumes.write(FILE, b"content" * 1_000, overwrite=True)
    emulator.clear()
    return FILE


def in_time(seconds: float):
    """An execution with a deadline, which every port has to keep."""
    identity = Identity(user="u")
    deadline = Deadline.after(seconds)
    return execution_scope.set(ExecutionScope(execution_id="e", agent_name="a", identity=identity, deadline=deadline))


@pytest.mark.parametrize(
    ("status", "error"),
    [
        (400, InvalidRequest),
        (401, WorkspaceUnavailable),
        (403, PermissionDenied),
        (404, NotFound),
        (409, Conflict),
    ],
)
async def test_refusals_are_translated_and_not_repeated(
    workspace: Workspace, emulator: Emulator, file: str, status: int, error: type[LakemeshError]
) -> None:
    emulator.fault(path=FILES, status=status, times=2 if status == 401 else 1)  # one more with a new token
    with pytest.raises(error):
        await workspace.volumes.read(file)
    emulator.clear()
    assert len(await workspace.volumes.read(file)) == 7_000


READ_ATTEMPTS = 3


async def test_a_withdrawn_token_is_renewed_once_and_nobody_notices(
    workspace: Workspace, emulator: Emulator, file: str
) -> None:
    name = "main.faults.renewed"
    await workspace.indexes.create(IndexSpec(name=name, dimension=2))
    model = workspace.endpoints.serving_endpoint("databricks-claude-sonnet-4-5")
    question = {"messages": [{"role": "user", "content": "Still there?"}]}
    emulator.clear()
    withdrawn = emulator.call("DELETE", "/emulator/tokens").json()["withdrawn"]
    assert withdrawn >= 1
    contents = await asyncio.gather(*(workspace.volumes.read(file) for _ in range(20)))
    assert {len(content) for content in contents} == {7_000}
    asked = [request for request in emulator.requests() if request["path"] == "/oidc/v1/token"]
    assert len(asked) == 1

    emulator.call("DELETE", "/emulator/tokens")
    assert (await model.chat(question, timeout_seconds=10))["choices"]
    emulator.call("DELETE", "/emulator/tokens")
    assert [chunk async for chunk in model.stream_chat(question, timeout_seconds=10)]
    emulator.call("DELETE", "/emulator/tokens")
    assert await model.embed(["still"], timeout_seconds=10)
    emulator.call("DELETE", "/emulator/tokens")
    assert await workspace.indexes.query(name, [1.0, 0.0]) == []


async def test_ping_asks_once(emulator: Emulator) -> None:
    """The health page waits for it, and would wait for the SDK's retries; while all is well, probes share an answer."""
    workspace = await databricks.open_workspace(emulator.settings())
    await workspace.volumes.list_directory("/Volumes/main/faults/files")  # fetches a token
    emulator.clear()
    emulator.fault(path="/api/2.0/preview/scim/v2/Me", status=503, retry_after_seconds=0, times=10)
    with pytest.raises(WorkspaceUnavailable):
        await workspace.ping()
    assert len(emulator.requests()) == 1
    emulator.clear()
    for _ in range(5):
        await workspace.ping()
    assert len(emulator.requests()) == 1
    await workspace.close()


async def test_an_upsert_goes_in_requests_the_platform_takes(workspace: Workspace, emulator: Emulator) -> None:
    name = "main.faults.large"
    await workspace.indexes.create(IndexSpec(name=name, dimension=1_024))
    emulator.clear()
    vector = [1 / (place + 3) for place in range(1_024)]
    await workspace.indexes.upsert(name, [{"id": str(row), "embedding": vector} for row in range(600)])
    sent = [request for request in emulator.requests() if request["path"].endswith("/upsert-data")]
    assert len(sent) >= 2
    assert await workspace.indexes.count(name) == 600


async def test_a_users_expired_token_is_the_users_to_renew(workspace: Workspace, emulator: Emulator) -> None:
    theirs = await workspace.on_behalf_of(Identity(user="ann@example.com", token="expired"))
    with pytest.raises(Unauthenticated):
        await theirs.warehouse.query("SELECT 1 AS a")


@pytest.mark.parametrize("status", [429, 503])
async def test_throttling_is_obeyed_and_passes(
    workspace: Workspace, emulator: Emulator, file: str, status: int
) -> None:
    emulator.fault(path=FILES, status=status, retry_after_seconds=0)
    assert len(await workspace.volumes.read(file)) == 7_000
    assert [request["fault"] for request in emulator.requests()] == [True, False]


async def test_throttling_longer_than_the_deadline_fails_at_once(
    workspace: Workspace, emulator: Emulator, file: str
) -> None:
    emulator.fault(path=FILES, status=429, retry_after_seconds=60)
    in_time(5)
    with pytest.raises(RateLimited) as refused:
        await workspace.volumes.read(file)
    assert refused.value.retry_after_seconds == 60
    assert len(emulator.requests()) == 1


@pytest.mark.parametrize("fault", [{"status": 500}, {"cut_body": True}])
async def test_a_lost_answer_is_asked_for_again(
    workspace: Workspace, emulator: Emulator, file: str, fault: dict
) -> None:
    emulator.fault(path=FILES, times=2, **fault)
    assert len(await workspace.volumes.read(file)) == 7_000
    assert len(emulator.requests()) == 3


async def test_a_workspace_that_stays_broken(workspace: Workspace, emulator: Emulator, file: str) -> None:
    emulator.fault(path=FILES, status=500, times=100)
    with pytest.raises(WorkspaceUnavailable):
        await workspace.volumes.read(file)


async def test_a_stall_ends_with_the_deadline(workspace: Workspace, emulator: Emulator, file: str) -> None:
    emulator.fault(path=FILES, delay_seconds=1.5)
    token = in_time(0.3)
    with pytest.raises(DeadlineExceeded):
        await workspace.volumes.read(file)
    execution_scope.reset(token)
    assert len(await workspace.volumes.read(file)) == 7_000


async def test_a_writing_statement_is_not_sent_twice(workspace: Workspace, emulator: Emulator) -> None:
    emulator.fault(method="POST", path=STATEMENTS, status=500)
    with pytest.raises(WorkspaceUnavailable):
        await workspace.warehouse.query("CREATE SCHEMA IF NOT EXISTS main.faults", read_only=False)
    assert len(emulator.requests()) == 1


async def test_a_poll_that_fails_is_repeated(workspace: Workspace, emulator: Emulator) -> None:
    emulator.fault(method="GET", path=STATEMENTS, status=500, times=2)
    result = await workspace.warehouse.query("SELECT 1 AS a", timeout_seconds=4)
    assert result.rows == [(1,)]


async def test_a_warehouse_that_starts_slowly(tmp_path) -> None:
    with serve(tmp_path, warehouse_start_seconds=1.0) as emulator:
        workspace = await databricks.open_workspace(emulator.settings())
        with pytest.raises(DeadlineExceeded):
            await workspace.warehouse.query("SELECT 1 AS a", timeout_seconds=0.2)
        assert (await workspace.warehouse.query("SELECT 1 AS a", timeout_seconds=20)).rows == [(1,)]
        await workspace.close()


@pytest.mark.parametrize(
    "fault",
    [
        {"method": "POST", "path": STATEMENTS, "status": 500, "after_effect": True},
        {"method": "POST", "path": STATEMENTS, "status": 500},
        {"method": "PUT", "path": FILES, "status": 500, "after_effect": True},
        {"method": "PUT", "path": FILES, "status": 500},
        {"method": "PUT", "path": ".*/applied", "status": 500},
        {"method": "DELETE", "path": FILES, "status": 500},
    ],
)
async def test_an_interrupted_append_is_finished_once(
    workspace: Workspace, emulator: Emulator, fault: dict, request: pytest.FixtureRequest
) -> None:
    """The application does what telemetry does: after a failure it asks what was applied, then goes on, perhaps
    with other batches than before."""
    table = f"main.faults.t{abs(hash(request.node.nodeid)) % 10**8}"
    await workspace.tables.create(TableSpec(name=table, columns=[Column("id", "BIGINT")]))
    await workspace.tables.append(table, pa.table({"id": [1]}), transaction=AppTransaction("app", 1))
    emulator.fault(**fault)
    with pytest.raises(WorkspaceUnavailable):
        await workspace.tables.append(table, pa.table({"id": [2, 3]}), transaction=AppTransaction("app", 3))
    after_crash = await databricks.open_workspace(emulator.settings())
    applied = await after_crash.tables.applied_version(table, "app")
    rest = [number for number in (2, 3, 4) if number > (applied or 0)]
    await after_crash.tables.append(table, pa.table({"id": rest}), transaction=AppTransaction("app", 4))
    rows = await after_crash.warehouse.query(f"SELECT id FROM {table} ORDER BY id")
    assert [row[0] for row in rows.rows] == [1, 2, 3, 4]
    assert await workspace.tables.applied_version(table, "app") == 4
    await after_crash.close()


async def test_an_index_obeys_and_reports(workspace: Workspace, emulator: Emulator) -> None:
    name = "main.faults.index"
    await workspace.indexes.create(IndexSpec(name=name, dimension=2))
    await workspace.indexes.upsert(name, [{"id": "a", "embedding": [1.0, 0.0]}])
    emulator.fault(path=".*/query", status=429, retry_after_seconds=0)
    assert len(await workspace.indexes.query(name, [1.0, 0.0])) == 1
    emulator.fault(path=".*/query", status=403)
    with pytest.raises(PermissionDenied):
        await workspace.indexes.query(name, [1.0, 0.0])
    emulator.fault(path=".*/query", delay_seconds=1.0)
    in_time(0.2)
    with pytest.raises(DeadlineExceeded):
        await workspace.indexes.query(name, [1.0, 0.0])


@pytest.mark.parametrize(
    ("fault", "retryable"),
    [({"status": 429, "retry_after_seconds": 3}, True), ({"status": 503}, True), ({"status": 403}, False)],
)
async def test_an_endpoint_says_whether_to_try_again(
    workspace: Workspace, emulator: Emulator, fault: dict, retryable: bool
) -> None:
    emulator.fault(path="/serving-endpoints/.*", **fault)
    endpoint = workspace.endpoints.serving_endpoint("databricks-claude-sonnet-4-5")
    with pytest.raises(EndpointError) as failed:
        await endpoint.chat({"messages": [{"role": "user", "content": "x"}]}, timeout_seconds=5)
    assert failed.value.retryable is retryable
    assert failed.value.retry_after_seconds == fault.get("retry_after_seconds")


async def test_a_workspace_out_of_reach(emulator: Emulator) -> None:
    settings = emulator.settings(DATABRICKS_HOST="http://127.0.0.1:9")
    in_time(2)
    with pytest.raises((WorkspaceUnavailable, DeadlineExceeded)):
        await databricks.open_workspace(settings)
