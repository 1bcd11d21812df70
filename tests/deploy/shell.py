"""The command line in an app's folder, on an emulated workspace."""

import contextlib
import io
import os
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from unittest import mock

import pytest

from lakemesh.cli.main import main
from tests.emulator.served import Emulator

REPOSITORY = Path(__file__).parents[2]


@dataclass(frozen=True)
class Shell:
    """`folder` is where commands run."""

    emulator: Emulator
    folder: Path
    environment_changes: dict[str, str] = field(default_factory=dict)

    @property
    def environment(self) -> dict[str, str]:
        return {
            "PYTHONPATH": str(REPOSITORY),
            "DATABRICKS_HOST": self.emulator.url,
            "DATABRICKS_TOKEN": "emulator-token",
            "LAKEMESH_WAREHOUSE_ID": "emulator",
            **self.environment_changes,
        }

    def start(self, *arguments: str) -> subprocess.Popen[str]:
        own = {name: value for name, value in os.environ.items() if not name.startswith(("LAKEMESH", "DATABRICKS"))}
        command = [sys.executable, "-m", "lakemesh.cli", *arguments]
        return subprocess.Popen(
            command,
            env=own | self.environment,
            cwd=self.folder,
            text=True,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )

    def run(self, *arguments: str, code: int = 0) -> str:
        """What the command says on both streams. It runs in this process, which has imported the SDK already."""
        said = io.StringIO()
        patched = mock.patch.multiple(sys, argv=["lakemesh", *arguments], path=[*sys.path], stdin=io.StringIO())
        with (
            mock.patch.dict(os.environ, self.environment),
            patched,
            contextlib.chdir(self.folder),
            contextlib.redirect_stdout(said),
            contextlib.redirect_stderr(said),
            pytest.raises(SystemExit) as ended,
        ):
            main()
        assert (ended.value.code or 0) == code, said.getvalue()
        return said.getvalue()

    def kill_at(self, method: str, path: str, *arguments: str, **fault: object) -> None:
        """SIGKILL while a request that meets `fault` waits for its answer."""
        self.emulator.clear()
        self.emulator.fault(method=method, path=path, **fault)
        process = self.start(*arguments)
        wait_until(lambda: any(request["fault"] for request in self.emulator.requests()), process)
        process.kill()
        process.communicate(timeout=30)
        self.emulator.clear()


def wait_until(condition: Callable[[], bool], process: subprocess.Popen[str]) -> None:
    while not condition():
        assert process.poll() is None, "the command ended before it met the fault"
        time.sleep(0.02)
