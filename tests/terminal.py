"""`lakemesh` as people run it: at a terminal of eighty columns."""

import os
import pty
import subprocess
import sys
from pathlib import Path

from tests.commands import REPOSITORY


def typed(folder: Path, arguments: list[str], lines: list[str], *, code: int = 0) -> str:
    """What it shows after these lines were typed into `lakemesh` with these arguments."""
    parent, child = pty.openpty()
    command = [sys.executable, "-m", "lakemesh.cli", *arguments]
    environment = {**os.environ, "PYTHONPATH": str(REPOSITORY), "COLUMNS": "80"}
    process = subprocess.Popen(command, cwd=folder, env=environment, stdin=child, stdout=child, stderr=child)
    os.close(child)
    os.write(parent, "".join(f"{line}\n" for line in lines).encode())
    shown = b""
    while True:
        try:
            read = os.read(parent, 65_536)
        except OSError:  # how Linux says that the other side is closed
            break
        if not read:
            break
        shown += read
    os.close(parent)
    assert process.wait(timeout=60) == code, shown.decode()
    return shown.decode()
