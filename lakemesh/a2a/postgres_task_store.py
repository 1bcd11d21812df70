"""Tasks in PostgreSQL, for all replicas of a server and beyond its restart."""

import asyncio
from typing import TYPE_CHECKING, Any

import asyncpg
import structlog
from a2a.types.a2a_pb2 import Message, Part, Role, Task, TaskState
from a2a.utils.errors import InternalError, TaskNotFoundError

from lakemesh.a2a.task_store import TaskPage, TaskQuery

if TYPE_CHECKING:
    from asyncpg import Pool, Record

logger = structlog.get_logger(__name__)

CONNECTIONS = 10
CALL_SECONDS = 5.0
SAVES_BETWEEN_CLEANING = 1_000
# Replicas start at the same time: the lock keeps two from making the same table.
SCHEMA = """
SELECT pg_advisory_xact_lock(hashtext('lakemesh.a2a_tasks'));
CREATE SCHEMA IF NOT EXISTS lakemesh;
CREATE TABLE IF NOT EXISTS lakemesh.a2a_tasks (
    number bigint GENERATED ALWAYS AS IDENTITY,
    id text PRIMARY KEY,
    owner text NOT NULL,
    context_id text NOT NULL,
    state integer NOT NULL,
    changed_at_ns bigint NOT NULL,
    runs_until timestamptz NOT NULL,
    expires_at timestamptz NOT NULL,
    task bytea NOT NULL
);
CREATE INDEX IF NOT EXISTS a2a_tasks_of_owner ON lakemesh.a2a_tasks (owner, number DESC);
CREATE INDEX IF NOT EXISTS a2a_tasks_by_end ON lakemesh.a2a_tasks (expires_at);
"""
SAVE = """
INSERT INTO lakemesh.a2a_tasks (id, owner, context_id, state, changed_at_ns, runs_until, expires_at, task)
VALUES ($1, $2, $3, $4, $5, now() + make_interval(secs => $6), now() + make_interval(secs => $6 + $7), $8)
ON CONFLICT (id) DO UPDATE SET state = excluded.state, changed_at_ns = excluded.changed_at_ns,
    runs_until = excluded.runs_until, expires_at = excluded.expires_at, task = excluded.task
WHERE a2a_tasks.owner = excluded.owner
"""
COLUMNS = "number, task, runs_until < now() AS overdue"
LOAD = f"SELECT {COLUMNS} FROM lakemesh.a2a_tasks WHERE id = $1 AND owner = $2 AND expires_at > now()"  # noqa: S608
WANTED = """
FROM lakemesh.a2a_tasks WHERE owner = $1 AND expires_at > now() AND ($2 = '' OR context_id = $2)
AND ($3 = 0 OR state = $3) AND changed_at_ns >= $4
"""
PAGE = f"SELECT {COLUMNS} {WANTED} AND ($5::bigint IS NULL OR number < $5) ORDER BY number DESC LIMIT $6"
CLEAN = "DELETE FROM lakemesh.a2a_tasks WHERE expires_at < now()"


class PostgresTaskStore:
    """Connects at first use. A task whose server went away while it ran is read as failed once its time is over.
    Raises `InternalError` when the database does not answer."""

    def __init__(self, url: str, *, ttl_seconds: float) -> None:
        self._url = url
        self._ttl_seconds = ttl_seconds
        self._pool: Pool | None = None
        self._opening = asyncio.Lock()
        self._saves = 0

    async def save(self, task: Task, owner: str, *, runs_seconds: float) -> None:
        state, changed_at = int(task.status.state), task.status.timestamp.ToNanoseconds()
        content = task.SerializeToString()
        values = (task.id, owner, task.context_id, state, changed_at, runs_seconds, self._ttl_seconds, content)
        await self._call("execute", SAVE, *values)
        self._saves += 1
        if self._saves % SAVES_BETWEEN_CLEANING == 0:
            await self._call("execute", CLEAN)

    async def load(self, task_id: str, owner: str) -> Task:
        row = await self._call("fetchrow", LOAD, task_id, owner)
        if row is None:
            raise TaskNotFoundError(f"There is no task {task_id!r:.80} of yours.")
        return task_of(row)

    async def page(self, owner: str, query: TaskQuery) -> TaskPage:
        wanted = (owner, query.context_id, query.state, query.changed_after_ns)
        rows = await self._call("fetch", PAGE, *wanted, query.before(), query.size + 1)
        total = await self._call("fetchval", f"SELECT count(*) {WANTED}", *wanted)
        page = rows[: query.size]
        token = str(page[-1]["number"]) if len(rows) > len(page) else ""
        return TaskPage(tasks=[task_of(row) for row in page], next_page_token=token, total=total)

    async def close(self) -> None:
        if self._pool is not None:
            self._pool.terminate()

    async def _call(self, method: str, statement: str, *values: Any) -> Any:
        try:
            async with asyncio.timeout(2 * CALL_SECONDS):
                return await getattr(await self._open(), method)(statement, *values)
        except (asyncpg.PostgresError, asyncpg.InterfaceError, OSError, TimeoutError) as error:
            logger.error("a2a task store failed", reason=f"{type(error).__name__}: {error}")
            raise InternalError("The store of the tasks does not answer; try again.") from error

    async def _open(self) -> "Pool":
        async with self._opening:
            if self._pool is None:
                pool = await asyncpg.create_pool(
                    self._url, min_size=0, max_size=CONNECTIONS, timeout=CALL_SECONDS, command_timeout=CALL_SECONDS
                )
                await pool.execute(SCHEMA)
                self._pool = pool
            return self._pool


def task_of(row: "Record") -> Task:
    task = Task()
    task.ParseFromString(row["task"])
    if row["overdue"] and task.status.state == TaskState.TASK_STATE_WORKING:
        task.status.state = TaskState.TASK_STATE_FAILED
        said = Message(
            message_id="status", role=Role.ROLE_AGENT, parts=[Part(text="The server that ran it went away.")]
        )
        task.status.message.CopyFrom(said)
    return task
