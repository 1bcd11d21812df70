"""Environments of their own, below `.cache/`, for what others wrote and whose pins exclude ours."""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

CACHE = Path(__file__).parents[1] / ".cache"
INSTALL_SECONDS = 420


def environment_with(name: str, *requirements: str) -> Path:
    """The interpreter that has the requirements, as `uv pip install` takes them from here. Where they cannot be had
    the test is skipped, and says why: a slow index is no fault of lakemesh's."""
    folder = CACHE / name
    interpreter = folder / "bin/python"
    if (folder / "installed").exists():
        return interpreter
    shutil.rmtree(folder, ignore_errors=True)
    uv = [sys.executable, "-m", "uv"]
    try:
        for command in (
            [*uv, "venv", "--quiet", "--python", sys.executable, str(folder)],
            [*uv, "pip", "install", "--quiet", "--python", str(interpreter), *requirements],
        ):
            subprocess.run(
                command, check=True, capture_output=True, text=True, timeout=INSTALL_SECONDS, cwd=CACHE.parent
            )
    except subprocess.TimeoutExpired:
        pytest.skip(f"left out: {name} is not installed within {INSTALL_SECONDS} s")
    except subprocess.CalledProcessError as error:
        pytest.skip(f"left out: {name}: {' '.join(error.stderr.split())[-300:]}")
    (folder / "installed").touch()
    return interpreter
