"""The workspace as agents get it: what they read and write is put to the policies first, and noted as an origin."""

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from lakemesh.config.policies import ActionKind
from lakemesh.governance.patterns import normalized
from lakemesh.lakehouse.jobs import JobInfo, OneTimeTask, PipelineUpdate
from lakemesh.lakehouse.sql_access import tables_accessed
from lakemesh.lakehouse.warehouse import QueryResult
from lakemesh.lakehouse.workspace import Workspace
from lakemesh.schemas import Identity
from lakemesh.scope import Guard, current_guard, current_scope, note_origin

Subjects = Sequence[tuple[ActionKind, str]]
Check = Callable[..., Awaitable[Subjects]]
"""What is asked of the guard before a method runs, and what data that is; called with the guard and the method's own
arguments."""


def about(kind: ActionKind, *, prefix: str = "") -> Check:
    """A method whose first argument names what is read, written or called."""

    async def check(guard: Guard, subject: Any, *_: Any, **__: Any) -> Subjects:
        name = f"{prefix}{getattr(subject, 'name', subject)}"
        await guard.require(kind, name)
        if kind == "read":
            note_origin(origin_of(name))
        return [(kind, name)]

    return check


async def statement(
    guard: Guard, text: str, parameters: Mapping[str, Any] | None = None, *_: Any, **options: Any
) -> Subjects:
    """Each table that a statement of SQL reads and writes."""
    within = options.get("catalog"), options.get("schema")
    found = await asyncio.to_thread(tables_accessed, text, parameters or {}, within=within)
    for name in found.written:
        await guard.require("write", name)
    for name in found.read:
        await guard.require("read", name)
        note_origin(origin_of(name))
    for name in found.called:
        await guard.require("call", name)
    written: list[tuple[ActionKind, str]] = [("write", name) for name in sorted(found.written)]
    return [*written, *(("read", name) for name in sorted(found.read)), *(("call", name) for name in found.called)]


async def job(guard: Guard, found: JobInfo, *_: Any, **__: Any) -> Subjects:
    """A job goes by its name and its number."""
    names = f"job:{found.name}", f"job:{found.job_id}"
    await guard.require("call", *names)
    return [("call", names[0])]


async def one_time_task(guard: Guard, task: OneTimeTask | PipelineUpdate, *_: Any, **__: Any) -> Subjects:
    """Running a file is reading it, and a call."""
    if isinstance(task, PipelineUpdate):
        name = f"pipeline:{task.name}"
        await guard.require("call", name, f"pipeline:{task.pipeline_id}")
        return [("call", name)]
    await guard.require("read", task.path)
    name = f"{task.kind}:{normalized(task.path)}"
    await guard.require("call", name)
    return [("call", name)]


async def free(guard: Guard, *_: Any, **__: Any) -> Subjects:
    """What tells nothing that a rule could be about."""
    return ()


def note_accesses(subjects: Subjects, *, rows: int) -> None:
    """For the audit trail; of a query, the rows of its result are told for each table."""
    scope = current_scope()
    if scope is not None:
        scope.accesses += [(kind, name, rows) for kind, name in subjects]


def origin_of(name: str) -> str:
    name = normalized(name)
    return f"path:{name}" if name.startswith("/") else f"table:{name}"


READ, WRITE = about("read"), about("write")
GENIE, PIPELINE = about("read", prefix="genie:"), about("call", prefix="pipeline:")
CHECKS: Mapping[str, Mapping[str, Check]] = {
    "volumes": {"read": READ, "list_directory": READ, "write": WRITE, "delete": WRITE, "delete_directory": WRITE},
    "tables": {
        "describe": READ, "applied_version": READ, "list_tables": free, "create": WRITE, "add_columns": WRITE,
        "append": WRITE, "delete_rows": WRITE, "compact": WRITE, "vacuum": WRITE, "drop": WRITE,
    },
    "warehouse": {"query": statement},
    "indexes": {
        "query": READ, "count": READ, "keys": READ, "describe": READ, "create": WRITE, "sync": WRITE,
        "upsert": WRITE, "delete": WRITE, "maintain": WRITE, "drop": WRITE,
    },
    "functions": {"list_functions": free, "describe": free, "execute": about("call")},
    "genie": {"ask": GENIE, "fetch_rows": GENIE, "rate": GENIE},
    "jobs": {
        "find": free, "run_now": job, "submit": one_time_task, "status": free, "wait": free, "cancel": free,
        "output": free,
    },
    "pipelines": {
        "find": free, "get": free, "update": free, "events": free, "create": PIPELINE, "edit": PIPELINE,
        "start": PIPELINE, "stop": PIPELINE,
    },
    "files": {"read": READ, "list_files": READ, "write": WRITE, "delete": WRITE},
    "git_folders": {"check_out": WRITE},
}  # fmt: skip
"""What each method of each port is held to. A method that is not here is refused while policies are in force."""


class GuardedPort:
    """A port whose methods ask the running execution's guard first. Outside of executions, and where there are no
    policies, it is the port itself."""

    __slots__ = ("_checks", "_port")

    def __init__(self, port: object, checks: Mapping[str, Check]) -> None:
        self._port = port
        self._checks = checks

    def __getattr__(self, name: str) -> Any:
        method = getattr(self._port, name)
        guard = current_guard()
        if guard is None:
            return method
        check = self._checks[name]

        async def guarded(*arguments: Any, **options: Any) -> Any:
            subjects = await check(guard, *arguments, **options)
            result = await method(*arguments, **options)
            note_accesses(subjects, rows=len(result.rows) if isinstance(result, QueryResult) else 0)
            return result

        return guarded


def guard_workspace(workspace: Workspace) -> Workspace:
    """The same workspace, held to the policies of whoever's execution uses it. Secrets, the directory of groups and the
    database are the server's own: agents get none of them."""
    bind = workspace.bind

    async def bind_guarded(identity: Identity) -> Workspace:
        assert bind is not None
        return guard_workspace(await bind(identity))

    ports = {name: getattr(workspace, name) for name in CHECKS}
    guarded: dict[str, Any] = {
        name: GuardedPort(port, CHECKS[name]) for name, port in ports.items() if port is not None
    }
    return replace(workspace, **guarded, bind=None if bind is None else bind_guarded)
