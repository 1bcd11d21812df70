"""Tasks in PostgreSQL, for all replicas of a server and beyond its restart."""

import asyncio
from typing import TYPE_CHECKING, Any

import asyncpg
import structlog
from pydantic_core import from_json, to_json

from lakemesh.a2a.errors import TaskNotFound
from lakemesh.a2a.task_store import PushConfigs, Task, TaskPage, TaskQuery, nanoseconds
from lakemesh.errors import Unavailable

if TYPE_CHECKING:
    from asyncpg import Pool, Record

logger = structlog.get_logger(__name__)

CONNECTIONS = 10
CALL_SECONDS = 5.0
SAVES_BETWEEN_CLEANING = 1_000
# Replicas start at the same time: the lock keeps two from making the same table. Tasks are JSON as bytes, since
# PostgreSQL's own types for JSON lack U+0000 or large integers.
SCHEMA = """
SELECT pg_advisory_xact_lock(hashtext('lakemesh.a2a_task'));
CREATE SCHEMA IF NOT EXISTS lakemesh;
CREATE TABLE IF NOT EXISTS lakemesh.a2a_task (
    number bigint GENERATED ALWAYS AS IDENTITY,
    id text PRIMARY KEY,
    owner text NOT NULL,
    message_key text NOT NULL,
    context_id text NOT NULL,
    state text NOT NULL,
    changed_at_ns bigint NOT NULL,
    runs_until timestamptz NOT NULL,
    expires_at timestamptz NOT NULL,
    task bytea NOT NULL,
    push bytea NOT NULL DEFAULT '[]'
);
CREATE INDEX IF NOT EXISTS a2a_task_of_owner ON lakemesh.a2a_task (owner, number DESC);
CREATE INDEX IF NOT EXISTS a2a_task_of_message ON lakemesh.a2a_task (owner, message_key);
CREATE INDEX IF NOT EXISTS a2a_task_by_end ON lakemesh.a2a_task (expires_at);
"""
SAVE = """
INSERT INTO lakemesh.a2a_task
    (id, owner, message_key, context_id, state, changed_at_ns, runs_until, expires_at, task)
VALUES ($1, $2, $3, $4, $5, $6, now() + make_interval(secs => $7), now() + make_interval(secs => $7 + $8), $9)
ON CONFLICT (id) DO UPDATE SET state = excluded.state, changed_at_ns = excluded.changed_at_ns,
    runs_until = excluded.runs_until, expires_at = excluded.expires_at, task = excluded.task
WHERE a2a_task.owner = excluded.owner RETURNING push
"""
MINE = "FROM lakemesh.a2a_task WHERE owner = $1 AND expires_at > now()"
COLUMNS = "number, task, runs_until < now() AS overdue"
LOAD = f"SELECT {COLUMNS} {MINE} AND id = $2"
FIND = f"SELECT {COLUMNS} {MINE} AND message_key = $2 ORDER BY number LIMIT 1"
PUSH = f"SELECT push {MINE} AND id = $2"
SET_PUSH = "UPDATE lakemesh.a2a_task SET push = $3 WHERE owner = $1 AND id = $2 RETURNING push"
WANTED = f"{MINE} AND ($2 = '' OR context_id = $2) AND ($3 = '' OR state = $3) AND changed_at_ns >= $4"
PAGE = f"SELECT {COLUMNS} {WANTED} AND ($5::bigint IS NULL OR number < $5) ORDER BY number DESC LIMIT $6"
RUNNING = ("TASK_STATE_WORKING", "TASK_STATE_INPUT_REQUIRED")
CLEAN = "DELETE FROM lakemesh.a2a_task WHERE expires_at < now()"


class PostgresTaskStore:
    """Connects at first use. A task whose server went away while it ran is read as failed once its time is over.
    Raises `Unavailable` when the database does not answer."""

    def __init__(self, url: str, *, ttl_seconds: float) -> None:
        self._url = url
        self._ttl_seconds = ttl_seconds
        self._pool: Pool | None = None
        self._opening = asyncio.Lock()
        self._saves = 0

    async def save(self, task: Task, owner: str, *, runs_seconds: float, message_key: str = "") -> PushConfigs:
        status, content = task["status"], to_json(task)
        values = (task["contextId"], status["state"], nanoseconds(status["timestamp"]))
        push = await self._call(
            "fetchval", SAVE, task["id"], owner, message_key, *values, runs_seconds, self._ttl_seconds, content
        )
        self._saves += 1
        if self._saves % SAVES_BETWEEN_CLEANING == 0:
            await self._call("execute", CLEAN)
        return [] if push is None else list(from_json(push))

    async def load(self, task_id: str, owner: str) -> Task:
        return task_of(found(await self._call("fetchrow", LOAD, owner, task_id), task_id))

    async def find(self, message_key: str, owner: str) -> Task | None:
        row = await self._call("fetchrow", FIND, owner, message_key)
        return None if row is None else task_of(row)

    async def page(self, owner: str, query: TaskQuery) -> TaskPage:
        wanted = (owner, query.context_id, query.state, query.changed_after_ns)
        rows = await self._call("fetch", PAGE, *wanted, query.before(), query.size + 1)
        total = await self._call("fetchval", f"SELECT count(*) {WANTED}", *wanted)
        page = rows[: query.size]
        token = str(page[-1]["number"]) if len(rows) > len(page) else ""
        return TaskPage(tasks=[task_of(row) for row in page], next_page_token=token, total=total)

    async def push_configs(self, task_id: str, owner: str) -> PushConfigs:
        return list(from_json(found(await self._call("fetchrow", PUSH, owner, task_id), task_id)["push"]))

    async def set_push_configs(self, task_id: str, owner: str, configs: PushConfigs) -> None:
        found(await self._call("fetchrow", SET_PUSH, owner, task_id, to_json(configs)), task_id)

    async def close(self) -> None:
        if self._pool is not None:
            self._pool.terminate()

    async def _call(self, method: str, statement: str, *values: Any) -> Any:
        try:
            async with asyncio.timeout(2 * CALL_SECONDS):
                return await getattr(await self._open(), method)(statement, *values)
        except (asyncpg.PostgresError, asyncpg.InterfaceError, OSError, TimeoutError) as error:
            logger.error("a2a task store failed", reason=f"{type(error).__name__}: {error}")
            raise Unavailable("The store of the tasks does not answer; try again.") from error

    async def _open(self) -> "Pool":
        async with self._opening:
            if self._pool is None:
                pool = await asyncpg.create_pool(
                    self._url, min_size=0, max_size=CONNECTIONS, timeout=CALL_SECONDS, command_timeout=CALL_SECONDS
                )
                await pool.execute(SCHEMA)
                self._pool = pool
            return self._pool


def found(row: "Record | None", task_id: str) -> "Record":
    if row is None:
        raise TaskNotFound(f"There is no task {task_id!r:.80} of yours.")
    return row


def task_of(row: "Record") -> Task:
    task: Task = from_json(row["task"])
    if row["overdue"] and task["status"]["state"] in RUNNING:
        text = "The server that ran it went away."
        message = {"messageId": f"{task['id']}-end", "role": "ROLE_AGENT", "parts": [{"text": text}]}
        task["status"] = {**task["status"], "state": "TASK_STATE_FAILED", "message": message}
        task["history"] = [*task.get("history", []), message]
    return task
