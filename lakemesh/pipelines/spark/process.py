"""The Spark that stays between runs: a process of its own, without this one's secrets, that carries out one job after
the other."""

import asyncio
import contextlib
import itertools
import json
import os
import shutil
import signal
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from lakemesh.errors import Unavailable

MAX_ANSWER_BYTES = 20_000_000
RUNNER = Path(__file__).parent / "runner.py"


class Spark:
    """Open-source Spark in the environment of `make spark`. It starts with the first job (about 10 s, 700 MB) and
    stays until `close`; whoever waits for an answer too long ends it, and the next job starts another."""

    def __init__(self, environment: Path) -> None:
        self.environment = environment.absolute()
        self._home: Path | None = None
        self._process: asyncio.subprocess.Process | None = None
        self._turn = asyncio.Lock()
        self._numbers = itertools.count(1)

    @property
    def installed(self) -> bool:
        return (self.environment / "bin" / "python").exists()

    async def run(self, folder: Path, job: Mapping[str, Any], *, timeout_seconds: float) -> dict[str, Any]:
        """Carry out `job` over the modules in `folder`, in a schema of its own. The answer has `error` and `message`
        when Spark refused. Raises `Unavailable` when Spark is not installed, or did not answer in time."""
        try:
            async with asyncio.timeout(timeout_seconds), self._turn:
                return await self._run(folder, job)
        except TimeoutError:
            raise Unavailable(f"Spark did not answer within {timeout_seconds:.0f} s.") from None

    async def _run(self, folder: Path, job: Mapping[str, Any]) -> dict[str, Any]:
        content = json.dumps({**job, "schema": f"run_{next(self._numbers)}"})
        await asyncio.to_thread((folder / "job.json").write_text, content)
        process = self._process if self._process is not None else await self._start()
        assert process.stdin is not None
        assert process.stdout is not None
        answered = False
        try:
            process.stdin.write(f"{folder}\n".encode())
            line = await process.stdout.readline()
            answered = line.endswith(b"\n")
        except (OSError, ValueError):  # it has gone, or says more than it may
            line = b""
        finally:
            if not answered:
                await self.close()
        if not answered:
            raise Unavailable("Spark ended without an answer.")
        answer: dict[str, Any] = json.loads(line)
        return answer

    async def _start(self) -> asyncio.subprocess.Process:
        """The process gets nothing of this one's environment but where programs are."""
        if not self.installed:
            raise Unavailable(f"Spark is not installed in {self.environment}; run `make spark` (about 1.2 GB).")
        self._home = Path(await asyncio.to_thread(tempfile.mkdtemp, prefix="lakemesh-spark-"))
        environment = {"PATH": os.environ.get("PATH", os.defpath), "HOME": str(self._home), "LANG": "C.UTF-8"}
        self._process = await asyncio.create_subprocess_exec(
            self.environment / "bin" / "python", "-I", RUNNER, self._home, env=environment, cwd=self._home,
            start_new_session=True, limit=MAX_ANSWER_BYTES, stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.DEVNULL,
        )  # fmt: skip
        return self._process

    async def close(self) -> None:
        """End the process, and the Java that it started."""
        process, self._process = self._process, None
        home, self._home = self._home, None
        if process is not None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            await process.wait()
        if home is not None:
            await asyncio.to_thread(shutil.rmtree, home, ignore_errors=True)
