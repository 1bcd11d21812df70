"""Servers under measurement: one process each, on a free loopback port, with the processor time they used."""

import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

READY = re.compile(rb"(?:Uvicorn running on|lakemesh at) http://127\.0\.0\.1:(\d+)")
STOP_SECONDS = 20.0


@dataclass(frozen=True, slots=True)
class ServerProcess:
    port: int
    pid: int

    def cpu_seconds(self) -> float:
        """User and system time so far, of workers that it started too."""
        with open(f"/proc/{self.pid}/task/{self.pid}/children") as children:
            return sum(map(cpu_seconds, (self.pid, *map(int, children.read().split()))))

    def resident_mb(self) -> float:
        with open(f"/proc/{self.pid}/status") as status:
            kilobytes = next(line.split()[1] for line in status if line.startswith("VmRSS"))
        return int(kilobytes) / 1024


def cpu_seconds(pid: int) -> float:
    """User and system time of one process (proc(5), fields 14 and 15 of /proc/PID/stat)."""
    with open(f"/proc/{pid}/stat") as stat:
        fields = stat.read().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


@contextmanager
def server_process(
    app: str, environment: Mapping[str, str] | None = None, *, python: str = sys.executable
) -> Iterator[ServerProcess]:
    """Run `uvicorn app` in a process of its own, under `python`; ended by SIGTERM, as the platform does it."""
    options = ["--port", "0", "--no-access-log", "--loop", "uvloop", "--http", "httptools"]
    with served([python, "-m", "uvicorn", app, *options], environment) as server:
        yield server


@contextmanager
def lakemesh_process(environment: Mapping[str, str]) -> Iterator[ServerProcess]:
    """The same with `lakemesh serve`, as it is deployed: with limits for connections, and the collector spared."""
    with served([sys.executable, "-m", "lakemesh.cli", "serve", "--port", "0"], environment) as server:
        yield server


@contextmanager
def served(command: Sequence[str], environment: Mapping[str, str] | None) -> Iterator[ServerProcess]:
    process = subprocess.Popen(
        command, stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, env={**os.environ, **(environment or {})}
    )
    try:
        assert process.stderr is not None
        for line in process.stderr:
            if ready := READY.search(line):
                break
        else:
            raise RuntimeError(f"{command[2:]} did not start")
        yield ServerProcess(int(ready[1]), process.pid)
    finally:
        process.send_signal(signal.SIGTERM)
        process.communicate(timeout=STOP_SECONDS)
