"""The commands of a page, run as a reader would run them one after the other."""

import os
import shlex
import subprocess
import sys
from contextlib import ExitStack
from pathlib import Path
from typing import Self

from tests import commands
from tests.docs.blocks import ROOT, Block
from tests.server_process import server_process

INSTALLS = ("pip ", "python3.11 -m venv", "uvicorn ")
"""What a reader needs first, and a test has already; and a server that the example's own test runs."""
WRITTEN = "http://127.0.0.1:8000"
SECONDS = 120


class Reader:
    """Sits in a folder with an environment of its own. `lakemesh serve` starts a server that goes on until the end."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.url = WRITTEN
        self.said = ""
        path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
        self.environment = {"PATH": path, "HOME": str(folder), "PYTHONPATH": f"{ROOT}:{folder}", "LANG": "C.UTF-8"}
        self._closing = ExitStack()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._closing.close()

    def follow(self, block: Block) -> None:
        if block.language in ("sh", "bash"):
            for line in block.commands:
                self.run(line, block, fails=block.title == "fails")
        elif block.title:
            file = self.folder / block.title
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(block.text)

    def run(self, line: str, block: Block, *, fails: bool) -> None:
        if line.startswith(INSTALLS):
            return
        words = shlex.split(line.replace(WRITTEN, self.url), comments=True)
        if words == ["lakemesh", "serve"]:
            self._serve()
            return
        if words[0] == "lakemesh":
            done = commands.run(*words[1:], cwd=self.folder, environment=self.environment)
        else:
            if words[0] in ("python", "pytest"):
                words = [sys.executable, *(["-m", "pytest"] if words[0] == "pytest" else []), *words[1:]]
            if words[0] == "curl":
                words.insert(1, "--fail-with-body")
            done = subprocess.run(
                words, cwd=self.folder, env=self.environment, capture_output=True, text=True, timeout=SECONDS
            )
        self.said = done.stdout
        assert done.returncode == (1 if fails else 0), f"{block}: {line}\n{done.stdout[-2000:]}{done.stderr[-2000:]}"

    def _serve(self) -> None:
        here = {"PYTHONPATH": self.environment["PYTHONPATH"]}
        server = server_process(self.folder / ".lakemesh", self.folder / "config", here)
        self.url = self._closing.enter_context(server).url
