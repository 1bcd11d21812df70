"""The process of one run: `python -m lakemesh.lakehouse.embedded.jobs.process <folder of the run>`.

It carries out the run's tasks, each after those it depends on, and writes down how it stands. SIGTERM cancels it.
"""

import asyncio
import os
import signal
import sys
import time
from collections.abc import Mapping, Sequence
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

from lakemesh.errors import LakemeshError
from lakemesh.file_lock import FileLock
from lakemesh.lakehouse.embedded.jobs.runs import read_json, write_json
from lakemesh.lakehouse.embedded.jobs.tasks import TaskRunner

LOCK_SECONDS = 5.0


class RunProcess:
    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._order = read_json(folder / "order.json") or {}
        self._state: dict[str, Any] = {"pid": os.getpid(), "start_ms": now_ms(), "tasks": {}}

    async def run(self) -> None:
        running = asyncio.ensure_future(self._run_tasks())
        asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, running.cancel)
        self._tell("RUNNING", None, "")
        if (self._folder / "cancel").exists():
            running.cancel()
        try:
            async with asyncio.timeout(float(self._order["timeout_seconds"])):
                failed = await running
            message = f"The task {failed[0]} failed." if failed else ""
            self._tell("TERMINATED", "FAILED" if failed else "SUCCESS", message)
        except TimeoutError:
            self._tell("TERMINATED", "TIMEDOUT", f"It took longer than {self._order['timeout_seconds']} s.")
        except asyncio.CancelledError:
            self._tell("TERMINATED", "CANCELED", "The run was cancelled.")

    async def _run_tasks(self) -> list[str]:
        """The keys of the tasks that failed."""
        failed: list[str] = []
        async with AsyncExitStack() as stack:
            runner = TaskRunner(self._folder, self._order, stack)
            for task in in_order(self._order["tasks"]):
                key = str(task["task_key"])
                if set(depended(task)) & set(failed):
                    self._tell_task(key, "UPSTREAM_FAILED", "A task it depends on failed.")
                    failed.append(key)
                    continue
                self._tell_task(key, None, "")
                try:
                    await runner.run(task)
                    self._tell_task(key, "SUCCESS", "")
                except LakemeshError as error:
                    write_json(self._folder / f"{key}.json", {"error": error.detail})
                    self._tell_task(key, "FAILED", error.detail)
                    failed.append(key)
        return failed

    def _tell_task(self, key: str, result: str | None, message: str) -> None:
        life = "RUNNING" if result is None else "TERMINATED"
        state = {"life_cycle_state": life, "state_message": message}
        self._state["tasks"][key] = state if result is None else {**state, "result_state": result}
        self._tell("RUNNING", None, "")

    def _tell(self, life_cycle: str, result: str | None, message: str) -> None:
        ended = {} if result is None else {"result_state": result, "end_ms": now_ms()}
        self._state.update(life_cycle_state=life_cycle, state_message=message, **ended)
        write_json(self._folder / "state.json", self._state)


def in_order(tasks: Sequence[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    """Each after those it depends on; of a circle, as they are written."""
    left = list(tasks)
    done: list[Mapping[str, Any]] = []
    while left:
        finished = {str(task["task_key"]) for task in done}
        ready = [task for task in left if finished.issuperset(depended(task))] or left
        done += ready
        left = [task for task in left if task not in ready]
    return done


def depended(task: Mapping[str, Any]) -> list[str]:
    return [str(one["task_key"]) for one in task.get("depends_on") or ()]


def now_ms() -> int:
    return time.time_ns() // 1_000_000


def main(folder: Path) -> None:
    lock = FileLock(folder / "lock")
    try:
        lock.acquire(LOCK_SECONDS)
    except TimeoutError:
        return  # another process has the run
    if not (folder / "state.json").exists():
        asyncio.run(RunProcess(folder).run())


if __name__ == "__main__":
    main(Path(sys.argv[1]))
