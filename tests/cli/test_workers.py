"""`lakemesh serve --workers`: processes on one port that are watched, replaced and drained."""

import os
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import httpx
import pytest

from tests.cli.test_startup import run
from tests.server import write_config

REPOSITORY = Path(__file__).parents[2]
AGENTS = """  where: {function: "tests.cli.where:where"}"""
BASE = re.compile(r"lakemesh at (http://\S+)")
WAIT_SECONDS = 90.0


class Workers:
    """Two of them, below a supervisor."""

    def __init__(self, root: Path) -> None:
        write_config(root / "config", AGENTS)
        inherited = {name: value for name, value in os.environ.items() if not name.startswith(("LAKEMESH", "DATAB"))}
        self.process = subprocess.Popen(
            [sys.executable, "-m", "lakemesh.cli", "serve", "--port", "0", "--workers", "2"],
            cwd=root,
            env={**inherited, "PYTHONPATH": str(REPOSITORY)},
            stderr=subprocess.PIPE,
            text=True,
        )
        self.lines: list[str] = []
        threading.Thread(target=self._read, daemon=True).start()
        self.url = until(lambda: next((found[1] for line in self.lines if (found := BASE.match(line))), None))

    def _read(self) -> None:
        assert self.process.stderr is not None
        self.lines.extend(self.process.stderr)

    def pid(self) -> int:
        """Of the worker that a new connection reaches."""
        body = {"agent": "where", "data": {}}
        answer = httpx.post(f"{self.url}/api/execute", json=body, timeout=30)
        assert answer.status_code == 200, answer.text
        return int(answer.json()["result"])

    def children(self) -> set[int]:
        found = Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children").read_text()
        return {int(pid) for pid in found.split()}


def until(condition: Callable[[], object]) -> object:
    end = time.monotonic() + WAIT_SECONDS
    while time.monotonic() < end:
        if found := condition():
            return found
        time.sleep(0.05)
    raise AssertionError("it did not happen")


@pytest.fixture(scope="module")
def workers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Workers]:
    made = Workers(tmp_path_factory.mktemp("workers"))
    yield made
    if made.process.poll() is None:
        made.process.terminate()
        made.process.wait(60)


def test_both_serve_one_port_and_what_they_do_not_share_is_said(workers: Workers) -> None:
    assert len(workers.children()) == 2
    assert workers.pid() in workers.children()
    assert any("Without LAKEMESH_DATABASE" in line for line in workers.lines)


def test_one_that_dies_is_replaced_while_the_other_serves(workers: Workers) -> None:
    former = workers.children()
    victim = min(former)
    os.kill(victim, signal.SIGKILL)
    until(lambda: victim not in workers.children())
    assert workers.pid() in former - {victim}
    until(lambda: len(workers.children()) == 2)


def test_they_are_replaced_one_by_one_without_a_lost_request(workers: Workers) -> None:
    former = workers.children()
    workers.process.send_signal(signal.SIGUSR2)
    asked = []
    until(lambda: asked.append(workers.pid()) or not former & workers.children())
    assert set(asked) & former
    assert workers.pid() in workers.children() - former
    until(lambda: len(workers.children()) == 2)


def test_a_hangup_has_them_read_the_configuration(workers: Workers) -> None:
    folder = Path(os.readlink(f"/proc/{workers.process.pid}/cwd")) / "config"
    write_config(folder, AGENTS + "\n  another: {class: echo}")
    workers.process.send_signal(signal.SIGHUP)
    body = {"agent": "another", "data": {"message": "hi"}}

    def answered() -> bool:
        return httpx.post(f"{workers.url}/api/execute", json=body, timeout=30).status_code == 200

    until(lambda: all(answered() for _ in range(5)))


def test_at_the_end_all_are_drained(workers: Workers) -> None:
    children = workers.children()
    workers.process.terminate()
    assert workers.process.wait(60) == 0
    assert not any(Path(f"/proc/{pid}").exists() for pid in children)


def test_workers_end_when_their_supervisor_is_killed(tmp_path: Path) -> None:
    workers = Workers(tmp_path)
    children = workers.children()
    workers.process.kill()
    workers.process.wait()
    until(lambda: not any(Path(f"/proc/{pid}/exe").exists() for pid in children))


def test_a_configuration_that_does_not_start_is_one_sentence(tmp_path: Path) -> None:
    answer = run(tmp_path, "serve", "--port", "0", "--workers", "2")
    assert answer.returncode == 1
    assert "There is no file config/lakemesh.yaml" in answer.stderr
    assert "Traceback" not in answer.stderr
