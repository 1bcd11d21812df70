"""`lakemesh serve` in a process of its own: what is killed, and what several of share a folder."""

import os
import re
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

READY = re.compile(r"Uvicorn running on (http://[\d.]+:\d+)")
START_SECONDS = 60.0


class ServerProcess:
    """Ready when it is made. `log` holds what it wrote to stderr so far."""

    def __init__(self, home: Path, config_folder: Path, environment: dict[str, str] | None = None) -> None:
        paths = {
            "LAKEMESH_HOME": str(home),
            "LAKEMESH_CONFIG_FOLDER": str(config_folder),
            "LAKEMESH_DRAIN_SECONDS": "10",
        }
        self.log: list[str] = []
        self.url = ""
        self._ready = threading.Event()
        self._process = subprocess.Popen(
            [sys.executable, "-m", "lakemesh.cli", "serve", "--port", "0"],
            stderr=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            text=True,
            env={**os.environ, **paths, **(environment or {})},
        )
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()
        assert self._ready.wait(START_SECONDS), "the server did not start"
        assert self.url, "".join(self.log)

    def _read(self) -> None:
        assert self._process.stderr is not None
        for line in self._process.stderr:
            self.log.append(line)
            if not self.url and (found := READY.search(line)):
                self.url = found[1]
                self._ready.set()
        self._ready.set()

    def kill(self) -> None:
        self._process.kill()
        self._process.wait()
        self._reader.join()

    def stop(self) -> int:
        """End it as the platform does; its exit code."""
        self._process.send_signal(signal.SIGTERM)
        code = self._process.wait(timeout=START_SECONDS)
        self._reader.join()
        return code


@contextmanager
def server_process(
    home: Path, config_folder: Path, environment: dict[str, str] | None = None
) -> Iterator[ServerProcess]:
    server = ServerProcess(home, config_folder, environment)
    try:
        yield server
    finally:
        if server._process.poll() is None:
            server.stop()
