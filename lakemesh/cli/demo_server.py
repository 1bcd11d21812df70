"""The server of a demo: a process of its own, and what is left to look at when the demo has ended."""

import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

from rich.console import Console

from lakemesh.errors import Unavailable

START_SECONDS = 60.0
STOP_SECONDS = 30.0
PORT = 8000
MARKER = "made-by-lakemesh-demo"


@dataclass(frozen=True, slots=True)
class Place:
    """Where a demo works: the folder of its workspace, and the configuration when it is one of its own."""

    home: Path
    config_folder: Path | None = None

    @property
    def variables(self) -> dict[str, str]:
        """For any `lakemesh` command that is to see what the demo left; none when it sees it anyway."""
        found = {} if self.home == Path(".lakemesh") else {"LAKEMESH_HOME": str(self.home)}
        return found | ({"LAKEMESH_CONFIG_FOLDER": str(self.config_folder)} if self.config_folder else {})


@contextmanager
def server(home: Path, port: int = 0, **settings: str) -> Iterator[int]:
    """A real server, on a free port; stopped as the platform does it."""
    environment = {**os.environ, "LAKEMESH_HOME": str(home), **settings}
    log = home / "server.log"
    with log.open("w") as output:
        process = subprocess.Popen(  # noqa: S603
            [sys.executable, "-m", "lakemesh.cli", "serve", "--port", str(port)],
            env=environment,
            stdout=subprocess.DEVNULL,
            stderr=output,
            start_new_session=True,  # Ctrl-C is for the demo, which stops it
        )
    try:
        yield wait_for_port(process, log)
    finally:
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(timeout=STOP_SECONDS)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def wait_for_port(process: "subprocess.Popen[bytes]", log: Path) -> int:
    """The port, once the server says that it listens. Raises `Unavailable` with what its log says last."""
    deadline = time.monotonic() + START_SECONDS
    while time.monotonic() < deadline and process.poll() is None:
        for line in log.read_text().splitlines():
            if "Uvicorn running on" in line:
                return int(json.loads(line)["event"].split()[3].rpartition(":")[2])
        time.sleep(0.05)
    reason = (log.read_text().splitlines() or ["it said nothing"])[-1]
    raise Unavailable(f"The server did not start: {reason} Its log is {log}.")


@dataclass(kw_only=True)
class LookingAround:
    """What to look at after a demo, by page of the console. `stay` keeps a server up until Ctrl-C; without it, which is
    so when nobody sits at a terminal, the command that starts one is printed."""

    place: Place
    stay: bool
    pages: dict[str, str] = field(default_factory=dict)
    commands: list[str] = field(default_factory=list)

    @contextmanager
    def open(self) -> Iterator[str | None]:
        """The server's address while it is up, or None."""
        if not self.stay:
            yield None
            return
        settings = {**self.place.variables, "LAKEMESH_CAPTURE_CONTENT": "true"}
        with server(self.place.home, PORT if is_free(PORT) else 0, **settings) as port:
            yield f"http://127.0.0.1:{port}"

    def show(self, console: Console, address: str | None) -> None:
        """Say where to look, and stay until Ctrl-C."""
        console.print()
        if address is not None:
            console.print(f"[bold]The server is up: {address}/[/bold]", highlight=False)
            for page, about in self.pages.items():
                console.print(f"  {address}/{page}  {about}", soft_wrap=True, highlight=False)
        console.print("Look at it with:" if address is None else "In another terminal:")
        for command in self.commands_to_type(serving=address is not None):
            console.print(f"  {command}", soft_wrap=True, highlight=False, markup=False)
        if address is not None:
            console.print("Stop with Ctrl-C; [bold]lakemesh serve[/bold] starts it again.", soft_wrap=True)
            with suppress(KeyboardInterrupt):
                signal.pause()

    def commands_to_type(self, *, serving: bool) -> list[str]:
        variables = " ".join(f"{name}={value}" for name, value in self.place.variables.items())
        commands = self.commands if serving else ["serve", *self.commands]
        return [*([f"export {variables}"] if variables else []), *(f"lakemesh {command}" for command in commands)]


def is_free(port: int) -> bool:
    with socket.socket() as tried:
        tried.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            tried.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True
