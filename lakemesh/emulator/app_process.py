"""A deployed app as a process of its own: started by its `app.yaml`, watched, stopped as the platform stops it."""

import asyncio
import contextlib
import os
import socket
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

START_SECONDS = 60.0
STOP_SECONDS = 15.0
POLL_SECONDS = 0.1
KEPT_VARIABLES = ("PATH", "HOME", "LANG", "TMPDIR", "PYTHONPATH", "SYSTEMROOT")
"""What an app sees of the emulator's own environment: where programs are, and no credentials."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Launch:
    """How an app is started; `source` is its working directory."""

    source: Path
    command: Sequence[str]
    environment: Mapping[str, str]


class AppProcess:
    """One app. Both streams go to `log`, which is kept over restarts."""

    def __init__(self, log: Path) -> None:
        self.log = log
        self.port = 0
        self._starting = asyncio.Lock()
        self._process: asyncio.subprocess.Process | None = None
        self._has_listened = False

    @property
    def is_running(self) -> bool:
        return self._process is not None and self._process.returncode is None

    @property
    def serves(self) -> bool:
        """It runs, and it listened on its port."""
        return self._has_listened and self.is_running

    async def start(self, launch: Launch) -> str | None:
        """Run it instead of what runs, until it listens on its port; why not, or None when it does."""
        async with self._starting:
            return await self._start(launch)

    async def _start(self, launch: Launch) -> str | None:
        await self.stop()
        self.port, self._has_listened = free_port(), False
        port = {"DATABRICKS_APP_PORT": str(self.port)}
        command = [part.replace("$DATABRICKS_APP_PORT", str(self.port)) for part in launch.command]
        try:
            with self.log.open("ab") as output:
                self._process = await asyncio.create_subprocess_exec(
                    *command,
                    cwd=launch.source,
                    env={**own_environment(), **launch.environment, **port},
                    stdin=asyncio.subprocess.DEVNULL,
                    stdout=output,
                    stderr=output,
                )
        except OSError as error:
            return f"The command {command[0]!r} cannot be run: {error.strerror}."
        return await self._listening()

    async def stop(self) -> None:
        """SIGTERM, `STOP_SECONDS`, SIGKILL (Databricks Apps documentation, "graceful shutdown")."""
        process, self._process = self._process, None
        if process is None or process.returncode is not None:
            return
        process.terminate()
        try:
            async with asyncio.timeout(STOP_SECONDS):
                await process.wait()
        except TimeoutError:
            process.kill()
            await process.wait()

    async def _listening(self) -> str | None:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(START_SECONDS):
                while self.is_running:
                    if await listens(self.port):
                        self._has_listened = True
                        return None
                    await asyncio.sleep(POLL_SECONDS)
        if self.is_running:
            await self.stop()
            return f"The app did not listen on its port within {START_SECONDS:.0f} s."
        code = self._process.returncode if self._process else None
        return f"The app ended with exit code {code}; its log says why."


def own_environment() -> dict[str, str]:
    """`python` is the interpreter the emulator runs on: requirements are not installed."""
    kept = {name: os.environ[name] for name in KEPT_VARIABLES if name in os.environ}
    return kept | {"PATH": f"{Path(sys.executable).parent}{os.pathsep}{kept.get('PATH', os.defpath)}"}


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return int(listener.getsockname()[1])


async def listens(port: int) -> bool:
    try:
        _, writer = await asyncio.open_connection("127.0.0.1", port)
    except OSError:
        return False
    writer.close()
    return True
