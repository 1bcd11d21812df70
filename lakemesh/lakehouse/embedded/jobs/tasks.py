"""Tasks of a run: files of SQL on the warehouse, Python and notebooks in processes of their own."""

import asyncio
import os
import re
import signal
import sys
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import AsyncExitStack, suppress
from pathlib import Path
from typing import Any

from pydantic_core import to_json, to_jsonable_python

from lakemesh.errors import AgentFailed, DeadlineExceeded, InvalidRequest
from lakemesh.lakehouse.embedded.jobs.access import open_sql, update_pipeline
from lakemesh.lakehouse.embedded.jobs.runs import bare_environment, write_json
from lakemesh.lakehouse.embedded.jobs.sql import Script
from lakemesh.lakehouse.embedded.workspace_files import FolderFiles

MAX_LOG_BYTES = 1_000_000
MAX_RESULT_ROWS = 1_000
MAX_RESULT_BYTES = 5_000_000
"""What a notebook may exit with on the platform (Jobs API 2.2, "get output": 5 MB)."""
CHUNK_BYTES = 65_536
ENDING_SECONDS = 5.0
DYNAMIC = re.compile(r"\{\{\s*([\w.]+)\s*\}\}")
SCRIPT = "lakemesh.lakehouse.embedded.jobs.script"
NOTEBOOK = "lakemesh.lakehouse.embedded.jobs.notebook"

Task = Mapping[str, Any]


class TaskRunner:
    """`stack` is closed when the run is over."""

    def __init__(self, folder: Path, order: Mapping[str, Any], stack: AsyncExitStack) -> None:
        self._folder = folder
        self._order = order
        self._stack = stack
        self._files = FolderFiles(Path(order["home"]) / "workspace-files")
        self._kinds: Mapping[str, Callable[[Task], Awaitable[None]]] = {
            "sql_task": self._sql,
            "spark_python_task": self._python,
            "notebook_task": self._notebook,
            "pipeline_task": self._pipeline,
        }

    async def run(self, task: Task) -> None:
        """Raises a `LakemeshError` that says why it failed."""
        kind = next((name for name in task if name.endswith("_task")), "nothing")
        carry_out = self._kinds.get(kind)
        if carry_out is None:
            raise InvalidRequest(f"{kind} is not run here; {', '.join(self._kinds)} are.")
        seconds = float(task.get("timeout_seconds") or 0) or None
        try:
            async with asyncio.timeout(seconds):
                await carry_out(task)
        except TimeoutError:
            raise DeadlineExceeded(f"It took longer than {seconds} s.") from None

    async def _sql(self, task: Task) -> None:
        asked = task["sql_task"]
        if "file" not in asked:
            raise InvalidRequest("Of SQL tasks, those with a file are run here; queries, alerts, dashboards are not.")
        text = (await self._read(asked["file"])).decode()
        query = await open_sql(self._order, self._stack)
        script = Script(query, {**self._order["parameters"], **self._filled(asked.get("parameters") or {}, task)})
        found = await script.run(text)
        rows = to_jsonable_python(found.rows[:MAX_RESULT_ROWS], inf_nan_mode="null", fallback=str)
        told = {"columns": list(found.columns), "rows": rows}
        self._keep(task, to_json(told).decode(), truncated=len(found.rows) > MAX_RESULT_ROWS)

    async def _python(self, task: Task) -> None:
        asked = task["spark_python_task"]
        code = await self._read({"path": asked["python_file"], "source": asked.get("source")})
        place = self._folder / f"{task['task_key']}.py"
        place.write_bytes(code)
        arguments = [self._fill(str(value), task) for value in asked.get("parameters") or ()]
        await self._process(["-m", SCRIPT, str(place), *arguments], task)

    async def _notebook(self, task: Task) -> None:
        asked = task["notebook_task"]
        path = str(asked["notebook_path"])
        code = await self._read({"path": path, "source": asked.get("source")}, endings=("", ".py", ".sql"))
        (self._folder / f"{task['task_key']}.notebook").write_bytes(code)
        widgets = {**self._order["parameters"], **self._filled(asked.get("base_parameters") or {}, task)}
        write_json(self._folder / f"{task['task_key']}.widgets.json", widgets)
        await self._process(["-m", NOTEBOOK, str(self._folder), str(task["task_key"])], task)

    async def _pipeline(self, task: Task) -> None:
        if self._order["api"] is None:
            raise InvalidRequest("Pipelines are updated by the workspace's API, which a laptop's jobs do not have.")
        await update_pipeline(self._order["api"], task["pipeline_task"])

    async def _read(self, file: Mapping[str, Any], *, endings: Sequence[str] = ("",)) -> bytes:
        if file.get("source") == "GIT":
            raise InvalidRequest("Files of tasks are the workspace's here, not Git's.")
        path = str(file["path"])
        if path.startswith("./") and self._order["source"] is not None:
            return await asyncio.to_thread((Path(self._order["source"]) / path).read_bytes)
        for ending in endings:
            if await asyncio.to_thread(self._files.is_file, path + ending):
                return await self._files.read(path + ending)
        raise InvalidRequest(f"There is no file {path} in the workspace.")

    async def _process(self, arguments: Sequence[str], task: Task) -> None:
        """Python with these arguments, in a session of its own, which ends with the task however that ends."""
        folder = self._folder / f"{task['task_key']}.work"
        folder.mkdir(exist_ok=True)
        process = await asyncio.create_subprocess_exec(
            sys.executable, *arguments, cwd=folder, env=self._environment(), stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT, start_new_session=True,
        )  # fmt: skip
        try:
            await self._log(process, task)
            code = await process.wait()
        finally:
            await end(process)
        if code:
            raise AgentFailed(f"The process ended with the exit code {code}; its log says why.")

    async def _log(self, process: asyncio.subprocess.Process, task: Task) -> None:
        """What it writes, up to a bound; the rest is read and let go, and the log's last line says so."""
        assert process.stdout is not None
        kept = 0
        with (self._folder / f"{task['task_key']}.log").open("wb") as log:
            while chunk := await process.stdout.read(CHUNK_BYTES):
                if kept < MAX_LOG_BYTES:
                    log.write(chunk[: MAX_LOG_BYTES - kept])
                    log.flush()
                kept += len(chunk)
            if kept > MAX_LOG_BYTES:
                log.write(f"\n[{kept - MAX_LOG_BYTES} bytes more were not kept]\n".encode())

    def _environment(self) -> dict[str, str]:
        """A task finds the workspace as on the platform: by credentials of whoever runs it, where there is an API."""
        if self._order["api"] is None:
            return bare_environment(LAKEMESH_HOME=self._order["home"], PYTHONUNBUFFERED="1")
        host, token = self._order["api"]
        return bare_environment(DATABRICKS_HOST=host, DATABRICKS_TOKEN=token, PYTHONUNBUFFERED="1")

    def _keep(self, task: Task, result: str, *, truncated: bool) -> None:
        write_json(
            self._folder / f"{task['task_key']}.json",
            {"result": result[:MAX_RESULT_BYTES], "truncated": truncated or len(result) > MAX_RESULT_BYTES},
        )

    def _filled(self, parameters: Mapping[str, Any], task: Task) -> dict[str, str]:
        return {name: self._fill(str(value), task) for name, value in parameters.items()}

    def _fill(self, text: str, task: Task) -> str:
        """Dynamic value references, as far as a run of its own knows them."""
        known = {f"job.parameters.{name}": value for name, value in self._order["parameters"].items()}
        known |= {"job.id": str(self._order["job_id"]), "job.run_id": str(self._order["run_id"])}
        known |= {"job.name": self._order["name"], "task.name": str(task["task_key"])}
        return DYNAMIC.sub(lambda found: str(known.get(found[1], found[0])), text)


async def end(process: asyncio.subprocess.Process) -> None:
    """Its whole session: asked first, then killed."""
    for signal_number in (signal.SIGTERM, signal.SIGKILL):
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal_number)
        if process.returncode is not None:
            continue
        with suppress(TimeoutError):
            async with asyncio.timeout(ENDING_SECONDS):
                await process.wait()
