"""Runs of jobs, each a folder: what is to be done, how it stands, what its tasks wrote.

The process of a run (`process.py`) holds the folder's lock for as long as it lives, so whoever looks knows whether it
still does, from any process and after any kill. An idempotency token is a file that can be made but once.
"""

import contextlib
import hashlib
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from lakemesh.errors import InvalidRequest, NotFound
from lakemesh.file_lock import FileLock

RUN_STEP = 1_000
"""Between the numbers of two runs; those between are the run's tasks'."""
START_SECONDS = 60.0
"""A run whose process has not told of itself by then never will."""
KEPT_RUNS = 1_000
DEFAULT_SECONDS = 3_600.0
MAX_TOKEN_CHARACTERS = 64
PASSED_ON = ("PATH", "PYTHONPATH", "HOME", "LANG", "TMPDIR")

State = dict[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class Order:
    """What a run is to do: `tasks` and `parameters` as the Jobs API has them, on the embedded workspace in `home`, by
    SQL of its own or, where there is an `api` (address and token), by that. `source` is where files lie that tasks
    name by `./`."""

    job_id: int
    name: str
    tasks: Sequence[Mapping[str, Any]]
    home: str
    user: str = "local"
    parameters: Mapping[str, str] = field(default_factory=dict)
    timeout_seconds: float = DEFAULT_SECONDS
    source: str | None = None
    api: tuple[str, str] | None = None


class LocalRuns:
    """Everything here blocks for a moment: call it from a worker thread."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._processes: list[subprocess.Popen[bytes]] = []

    def start(self, order: Order, *, token: str | None = None, most_at_once: int | None = None) -> int:
        """The run's number. The same token is the same run; one that was taken by a process which died before the run
        began is begun now. A job that has `most_at_once` runs going on skips this one."""
        if token is not None and len(token) > MAX_TOKEN_CHARACTERS:
            raise InvalidRequest(f"An idempotency token has at most {MAX_TOKEN_CHARACTERS} characters.")
        known = self._run_of(token)
        if known is None:
            skipped = most_at_once is not None and self._going_on(order.job_id) >= most_at_once
            run_id = self._lay_out(order, skipped=skipped)
            known = self._claim(token, run_id)
            if known != run_id:
                shutil.rmtree(self._run(run_id))
        self._begin(known)
        return known

    def read(self, run_id: int) -> State:
        """How the run stands, in the Jobs API's words, and `tasks` by their keys. Raises `NotFound`."""
        folder = self._existing(run_id)
        state = read_json(folder / "state.json")
        if state is None or state["life_cycle_state"] in ("RUNNING", "TERMINATING"):
            alive = is_held(folder / "lock")
            state = read_json(folder / "state.json")  # it may have ended in between
            if state is None:
                late = time.time() - (folder / "order.json").stat().st_mtime > START_SECONDS
                return dead("The run's process did not start.") if late and not alive else waiting()
            if not alive and state["life_cycle_state"] in ("RUNNING", "TERMINATING"):
                return {**state, **dead("The run's process ended before the run did.")}
        return state

    def order_of(self, run_id: int) -> State:
        order = read_json(self._existing(run_id) / "order.json")
        assert order is not None
        return order

    def output(self, run_id: int, task: str) -> State:
        """What the task gave back and wrote; empty before it did."""
        folder = self._existing(run_id)
        log = folder / f"{task}.log"
        text = log.read_bytes().decode(errors="replace") if log.exists() else ""
        return {"logs": text, **(read_json(folder / f"{task}.json") or {})}

    def cancel(self, run_id: int) -> None:
        """Raises `NotFound`. A run that has not begun ends as it begins."""
        folder = self._existing(run_id)
        (folder / "cancel").touch()
        state = read_json(folder / "state.json")
        if state is not None and state["life_cycle_state"] == "RUNNING" and is_held(folder / "lock"):
            with contextlib.suppress(ProcessLookupError):
                os.kill(int(state["pid"]), signal.SIGTERM)

    def reap(self) -> None:
        """Take note of processes of ours that have ended."""
        self._processes = [process for process in self._processes if process.poll() is None]

    def _run(self, run_id: int) -> Path:
        return self._folder / "runs" / str(run_id)

    def _existing(self, number: int) -> Path:
        """The folder of a run, by its number or one of its tasks'."""
        folder = self._run(number // RUN_STEP * RUN_STEP)
        if not (folder / "order.json").exists():
            raise NotFound(f"Run {number} does not exist.")
        return folder

    def _run_of(self, token: str | None) -> int | None:
        place = None if token is None else self._place_of(token)
        return int(place.read_text()) if place is not None and place.exists() else None

    def _place_of(self, token: str) -> Path:
        return self._folder / "tokens" / hashlib.sha256(token.encode()).hexdigest()

    def _lay_out(self, order: Order, *, skipped: bool) -> int:
        """A folder of its own, by the clock; the order is there before anybody can know the number."""
        run_id = time.time_ns() // 1_000_000 * RUN_STEP
        (self._folder / "runs").mkdir(parents=True, exist_ok=True)
        while True:
            try:
                self._run(run_id).mkdir(mode=0o700)
                break
            except FileExistsError:
                run_id += RUN_STEP
        content = {**asdict(order), "run_id": run_id, "created_ms": time.time_ns() // 1_000_000}
        write_json(self._run(run_id) / "order.json", content)
        if skipped:
            write_json(self._run(run_id) / "state.json", SKIPPED)
        return run_id

    def _claim(self, token: str | None, run_id: int) -> int:
        """The run that the token stands for from now on: this one, unless another came first."""
        if token is None:
            return run_id
        place = self._place_of(token)
        place.parent.mkdir(parents=True, exist_ok=True)
        written = self._run(run_id) / "token"
        written.write_text(str(run_id))
        try:
            os.link(written, place)
        except FileExistsError:
            return int(place.read_text())
        return run_id

    def _begin(self, run_id: int) -> None:
        """Start the run's process, unless there was one. Of two that start at once, one finds the lock taken."""
        folder = self._existing(run_id)
        self.reap()
        if (folder / "state.json").exists() or is_held(folder / "lock"):
            return
        with (folder / "process.log").open("ab") as log:
            self._processes.append(
                subprocess.Popen(  # noqa: S603 - our own interpreter and module
                    [sys.executable, "-m", "lakemesh.lakehouse.embedded.jobs.process", str(folder)],
                    stdin=subprocess.DEVNULL,
                    stdout=log,
                    stderr=log,
                    env=bare_environment(),
                    start_new_session=True,
                )
            )

    def _going_on(self, job_id: int) -> int:
        """Runs of the job that have not ended; looked for among the newest."""
        places = sorted((self._folder / "runs").glob("*/order.json"), reverse=True)[:KEPT_RUNS]
        orders = ((read_json(place) or {}, place) for place in places)
        numbers = [int(place.parent.name) for order, place in orders if order.get("job_id") == job_id]
        return sum(self.read(number)["life_cycle_state"] not in ENDED for number in numbers)


ENDED = ("TERMINATED", "SKIPPED", "INTERNAL_ERROR")
SKIPPED = {
    "life_cycle_state": "SKIPPED",
    "state_message": "The job has as many runs going on as it may (max_concurrent_runs).",
}


def waiting() -> State:
    return {"life_cycle_state": "PENDING", "state_message": ""}


def dead(message: str) -> State:
    return {"life_cycle_state": "INTERNAL_ERROR", "result_state": "FAILED", "state_message": message}


def bare_environment(**more: str) -> dict[str, str]:
    """Nothing of the server's: no credentials, no configuration."""
    return {**{name: os.environ[name] for name in PASSED_ON if name in os.environ}, **more}


def is_held(file: Path) -> bool:
    """Whether a process holds the lock."""
    lock = FileLock(file)
    free = lock.try_acquire(shared=True)
    if free:
        lock.release()
    return not free


def read_json(file: Path) -> State | None:
    try:
        found: State = json.loads(file.read_text())
    except FileNotFoundError:
        return None
    return found


def write_json(file: Path, content: Mapping[str, Any]) -> None:
    """Whole, or not at all; for its owner alone."""
    written = file.with_suffix(".new")
    with open(os.open(written, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w") as opened:
        json.dump(content, opened)
    os.replace(written, file)
