"""`lakemesh` as scripts run it: a process each, with an exit code, stdout and stderr of its own. It is forked from one
that has imported lakemesh already, which spares every test a second of imports. `python -m tests.commands` is that
process: it reads one command a line and answers with the exit code."""

import gc
import importlib
import json
import os
import select
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import NoReturn

REPOSITORY = Path(__file__).parents[1]
SECONDS = 120.0
IMPORTED = ("lakemesh.cli.main", "lakemesh.app", "duckdb", "pyarrow", "pyarrow.compute", "deltalake", "sqlglot")


def run(*arguments: str, cwd: Path, environment: Mapping[str, str]) -> subprocess.CompletedProcess[str]:
    """The command's end. `environment` is all it has."""
    process = forking_process()
    assert process.stdin is not None
    assert process.stdout is not None
    with tempfile.TemporaryDirectory() as folder:
        out, err = Path(folder, "stdout"), Path(folder, "stderr")
        command = {
            "arguments": arguments,
            "cwd": str(cwd),
            "environment": dict(environment),
            "stdout": str(out),
            "stderr": str(err),
        }
        process.stdin.write(json.dumps(command) + "\n")
        process.stdin.flush()
        ready, _, _ = select.select([process.stdout], [], [], SECONDS)
        if not ready:
            process.kill()
            forking_process.cache_clear()
            raise AssertionError(f"{arguments} did not end: {err.read_text()[-2_000:]}")
        code = int(process.stdout.readline())
        return subprocess.CompletedProcess(arguments, code, out.read_text(), err.read_text())


@cache
def forking_process() -> "subprocess.Popen[str]":
    """One for all tests of this process; it ends with it, when its stdin does."""
    return subprocess.Popen(
        [sys.executable, "-m", "tests.commands"],
        cwd=REPOSITORY,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )


def main() -> None:
    for name in IMPORTED:
        importlib.import_module(name)
    gc.freeze()  # or every child would copy what its collector only looks at
    while line := sys.stdin.readline():
        child = os.fork()
        if child == 0:
            become(json.loads(line))
        _, status = os.waitpid(child, 0)
        sys.stdout.write(f"{os.waitstatus_to_exitcode(status)}\n")
        sys.stdout.flush()


def become(command: Mapping[str, object]) -> NoReturn:
    """The command line itself, in this process."""
    from lakemesh.cli.main import main as command_line

    for descriptor, path, flags in (
        (0, os.devnull, os.O_RDONLY),
        (1, command["stdout"], os.O_WRONLY | os.O_CREAT),
        (2, command["stderr"], os.O_WRONLY | os.O_CREAT),
    ):
        os.dup2(os.open(str(path), flags), descriptor)
    os.environ.clear()
    os.environ.update(command["environment"])
    os.chdir(str(command["cwd"]))
    sys.argv = ["lakemesh", *command["arguments"]]
    command_line()
    sys.exit(0)


if __name__ == "__main__":
    main()
