"""Both builds of the task store keep the same promises."""

import asyncio
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path

import httpx
import pytest
from a2a.types.a2a_pb2 import GetTaskRequest, ListTasksRequest, TaskState

from lakemesh.a2a.errors import InvalidParams, TaskNotFound
from lakemesh.a2a.postgres_task_store import PostgresTaskStore
from lakemesh.a2a.task_store import MemoryTaskStore, Task, TaskQuery, TaskStore, nanoseconds
from lakemesh.errors import Overloaded, Unavailable
from tests.interop.test_a2a import AGENTS, asking, connected
from tests.server import running_server, write_config

pytestmark = pytest.mark.anyio

WORKING, COMPLETED = "TASK_STATE_WORKING", "TASK_STATE_COMPLETED"

Open = Callable[[float], TaskStore]


@pytest.fixture(params=["memory", "postgres"])
async def open_store(request: pytest.FixtureRequest) -> AsyncIterator[Open]:
    opened: list[TaskStore] = []

    def open_one(ttl_seconds: float) -> TaskStore:
        if request.param == "memory":
            opened.append(MemoryTaskStore(max_tasks=100, max_bytes=10**6, ttl_seconds=ttl_seconds))
        else:
            opened.append(PostgresTaskStore(request.getfixturevalue("postgres"), ttl_seconds=ttl_seconds))
        return opened[-1]

    yield open_one
    for store in opened:
        await store.close()


def task(state: str = COMPLETED, context_id: str = "c", second: int = 0) -> Task:
    timestamp = f"2026-11-20T10:00:{second:02}.000Z"
    return {"id": uuid.uuid4().hex, "contextId": context_id, "status": {"state": state, "timestamp": timestamp}}


def owner() -> str:
    return uuid.uuid4().hex


async def test_a_task_is_read_by_its_owner_alone(open_store: Open) -> None:
    store, mine, ann = open_store(60), task(), owner()
    await store.save(mine, ann, runs_seconds=0)
    assert (await store.load(mine["id"], ann)) == mine
    for identity, task_id in ((owner(), mine["id"]), (ann, "none")):
        with pytest.raises(TaskNotFound):
            await store.load(task_id, identity)
    assert (await store.page(owner(), TaskQuery(size=10))).tasks == []


async def test_a_task_saved_again_is_replaced_and_keeps_its_place(open_store: Open) -> None:
    store, ann = open_store(60), owner()
    first, second = task(WORKING), task(WORKING)
    for each in (first, second):
        await store.save(each, ann, runs_seconds=60)
    first["status"]["state"] = COMPLETED
    await store.save(first, ann, runs_seconds=0)
    page = await store.page(ann, TaskQuery(size=10))
    assert [(each["id"], each["status"]["state"]) for each in page.tasks] == [
        (second["id"], WORKING),
        (first["id"], COMPLETED),
    ]


async def test_pages_hold_every_task_once_newest_first(open_store: Open) -> None:
    store, ann = open_store(60), owner()
    tasks = [task(context_id=f"c{number % 2}", second=number) for number in range(7)]
    for each in tasks:
        await store.save(each, ann, runs_seconds=0)
    seen: list[str] = []
    token = ""
    while True:
        page = await store.page(ann, TaskQuery(size=2, page_token=token))
        seen += [each["id"] for each in page.tasks]
        assert page.total == 7
        await store.save(task(), owner(), runs_seconds=0)
        if not (token := page.next_page_token):
            break
    assert seen == [each["id"] for each in reversed(tasks)]
    odd = await store.page(ann, TaskQuery(size=10, context_id="c1", state=COMPLETED))
    assert (odd.total, odd.next_page_token) == (3, "")
    later = nanoseconds(tasks[-1]["status"]["timestamp"])
    assert (await store.page(ann, TaskQuery(size=10, changed_after_ns=later))).total == 1


@pytest.mark.parametrize("token", ["x", "-1", "1; DROP TABLE", "9" * 30, "١"])
async def test_tokens_never_given_are_refused(open_store: Open, token: str) -> None:
    with pytest.raises(InvalidParams):
        await open_store(60).page(owner(), TaskQuery(size=1, page_token=token))


async def test_ended_tasks_are_forgotten_in_time(open_store: Open) -> None:
    store, ann, old = open_store(0.01), owner(), task()
    await store.save(old, ann, runs_seconds=0)

    async def gone() -> bool:
        return (await store.page(ann, TaskQuery(size=1))).total == 0

    await until(gone)
    with pytest.raises(TaskNotFound):
        await store.load(old["id"], ann)


async def until(check: Callable[[], Awaitable[bool]]) -> None:
    async with asyncio.timeout(20):
        while not await check():  # noqa: ASYNC110  (a database has no event to wait for)
            await asyncio.sleep(0.01)


async def test_memory_is_bounded_and_running_tasks_keep_their_place() -> None:
    store = MemoryTaskStore(max_tasks=2, max_bytes=10**6, ttl_seconds=60)
    running, ended = task(WORKING), task()
    await store.save(running, "ann", runs_seconds=60)
    await store.save(ended, "ann", runs_seconds=0)
    await store.save(task(WORKING), "bob", runs_seconds=60)
    assert (await store.load(running["id"], "ann")) == running
    with pytest.raises(TaskNotFound):
        await store.load(ended["id"], "ann")
    with pytest.raises(Overloaded):
        await store.save(task(), "ann", runs_seconds=0)


async def test_memory_is_bounded_in_bytes() -> None:
    store, large = MemoryTaskStore(max_tasks=100, max_bytes=10_000, ttl_seconds=60), {"text": "x" * 4_000}
    tasks = [{**task(), "metadata": large} for _ in range(5)]
    for each in tasks:
        await store.save(each, "ann", runs_seconds=0)
    assert [each["id"] for each in (await store.page("ann", TaskQuery(size=10))).tasks] == [
        each["id"] for each in reversed(tasks[-2:])
    ]


async def test_a_message_and_its_push_configurations_are_found_with_their_task(open_store: Open) -> None:
    store, ann, mine = open_store(60), owner(), task(WORKING)
    await store.save(mine, ann, runs_seconds=60, message_key="m")
    assert (await store.find("m", ann)) == mine
    assert await store.find("m", owner()) is None
    config = {"id": "a", "taskId": mine["id"], "url": "https://example.com", "legacy": False}
    await store.set_push_configs(mine["id"], ann, [config])
    assert await store.save({**mine, "status": task()["status"]}, ann, runs_seconds=0) == type(
        await store.push_configs(mine["id"], ann)
    )([config])
    for wrong in ((mine["id"], owner()), ("none", ann)):
        with pytest.raises(TaskNotFound):
            await store.push_configs(*wrong)
        with pytest.raises(TaskNotFound):
            await store.set_push_configs(*wrong, [])


async def test_a_task_whose_server_died_is_read_as_failed_once_its_time_is_over(postgres: str) -> None:
    dead, ann, orphan = PostgresTaskStore(postgres, ttl_seconds=60), owner(), task(WORKING)
    await dead.save(orphan, ann, runs_seconds=0.05)
    await dead.close()
    store = PostgresTaskStore(postgres, ttl_seconds=60)

    async def failed() -> bool:
        return (await store.load(orphan["id"], ann))["status"]["state"] == "TASK_STATE_FAILED"

    await until(failed)
    await store.close()


async def test_a_database_that_is_away_is_said_in_the_protocols_words() -> None:
    store = PostgresTaskStore("postgresql://nobody@127.0.0.1:9/none", ttl_seconds=60)
    with pytest.raises(Unavailable, match="store of the tasks"):
        await store.load("x", "ann")


async def test_any_replica_reads_the_tasks_of_the_others(postgres: str, tmp_path: Path) -> None:
    more = f"a2a: {{enabled: true, database_url: '{postgres}'}}\n"
    folder = write_config(tmp_path / "config", AGENTS, more=more)
    with running_server(tmp_path / "one", folder) as one, running_server(tmp_path / "two", folder) as two:
        async with connected(one.url, "JSONRPC", "1.0", streaming=False) as here:
            done = [item async for item in here.send_message(asking("echo", {"message": "hello"}))][-1].task
        async with connected(two.url, "JSONRPC", "1.0") as there:
            read = await there.get_task(GetTaskRequest(id=done.id))
            assert read.status.state == TaskState.TASK_STATE_COMPLETED
            assert read.artifacts == done.artifacts
            assert done.id in [each.id for each in (await there.list_tasks(ListTasksRequest())).tasks]
        async with connected(one.url, "JSONRPC", "1.0") as here:
            stream = here.send_message(asking("trouble", {"mode": "hang"}))
            task_id = (await anext(stream)).task.id
            call = {"jsonrpc": "2.0", "id": 1, "method": "CancelTask", "params": {"id": task_id}}
            async with httpx.AsyncClient() as http:
                answer = await http.post(f"{two.url}/a2a/rpc", json=call, headers={"A2A-Version": "1.0"})
            assert "another replica" in answer.json()["error"]["message"]
            await stream.aclose()
