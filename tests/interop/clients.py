"""The clients, suites and generators that others wrote, each in an environment of its own below `.cache/`.

    python -m tests.interop.clients        install what is missing

Their pins exclude each other and ours. What cannot be had here (no npm, a slow network) is left out, in one line each,
and the tests that need it say the same.
"""

import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tests.environments import CACHE

ROOT = Path(__file__).parents[2]
INSTALL_SECONDS = 480
"""For all of them: the quick ones do not wait for one whose download crawls."""
AT_ONCE = 3
PYTHON_CLIENTS = {
    "fastmcp-2": ("fastmcp==2.14.7",),
    "fastmcp-4": ("fastmcp==4.1.2",),
    "langchain": ("langchain-mcp-adapters==0.3.2",),
    "openai-agents": ("openai-agents==0.24.0",),
    "pydantic-ai": ("pydantic-ai-slim[mcp]==2.68.0",),
    "mcp": ("mcp==2.3.0",),
    "mcp-2025-03-26": ("pydantic==2.11.10", "mcp==1.9.4"),
    "a2a-0.3": ("a2a-sdk==0.3.26",),
    "google-adk": ("google-adk[a2a]==2.13.0",),
    "agent-framework": ("agent-framework-a2a==1.0.0b261022",),
    "mlflow": ("mlflow==3.17.2",),
    "langgraph": (
        "langgraph-checkpoint-conformance==0.0.2",
        "psycopg[binary]==3.3.9",
        "psycopg-pool==3.3.3",
        "structlog==26.1.0",
        "numpy==2.4.6",
        "langgraph==1.2.22",
    ),
    "openapi": (
        "openapi-spec-validator==0.7.2",
        "openapi-python-client==0.29.1",
        "urllib3==2.8.0",
        "python-dateutil==4.0.0",
        "openapi-generator-cli==7.26.0",
    ),
    "lakemesh-openai-agents": (".[postgres]", "pytest", "openai-agents==0.24.0"),
    "lakemesh-pydantic-ai": (".[postgres]", "pytest", "pydantic-ai-slim[openai]==2.68.0"),
    "lakemesh-mcp": (".", "pytest", "mcp==2.3.0"),
    "lakemesh-langgraph": (".[postgres]", "pytest", "langgraph==1.2.22"),
    "lakemesh-mlflow": (".[databricks,local-database]", "mlflow==3.17.2"),
    "databricks-agents": ("--no-deps", "databricks-agents==1.13.0"),
    "databricks-langchain": ("mcp==1.30.0", "databricks-langchain==0.22.0"),
}
"""The environment's name, and what pip installs in it; `.` is lakemesh itself."""
NODE_CLIENTS = {
    "node": ("node@22.23.3",),
    "mcp-typescript": ("@modelcontextprotocol/client@2.4.0",),
    "mcp-conformance": ("@modelcontextprotocol/conformance@0.2.0-alpha.12",),
    "mcp-conformance-2025": ("@modelcontextprotocol/conformance@0.1.16",),
    "inspector": ("@modelcontextprotocol/inspector@0.15.0",),
    "a2a-js": ("@a2a-js/sdk@1.3.0",),
    "axe": ("axe-core@4.14.1",),
    "openapi-typescript": ("openapi-typescript@7.13.0", "@types/node@22.20.5", "typescript@5.9.3"),
}


def python_of(name: str) -> str:
    """The interpreter of a Python client's environment; the test is skipped where it is not installed."""
    return str(installed(name) / "bin/python")


def modules_of(name: str) -> Path:
    """`node_modules` of a Node client's environment."""
    return installed(name) / "node_modules"


def node() -> str:
    """The Node that runs all of them."""
    return str(modules_of("node") / ".bin/node")


def installed(name: str) -> Path:
    folder = folder_of(name)
    if not (folder / "installed").exists():
        pytest.skip(f"{name} is not installed; `make judge-clients` does it")
    return folder


def folder_of(name: str) -> Path:
    """Changes with the pins, so that another version is another environment."""
    packages = PYTHON_CLIENTS.get(name) or NODE_CLIENTS[name]
    pin = packages[-1].rpartition("==")[2].rpartition("@")[2]
    return CACHE / f"client-{name}-{pin}"


def install(name: str, seconds: Callable[[], float]) -> str | None:
    """Why it is left out, or None when it is there. `seconds` is the time that is left."""
    folder = folder_of(name)
    if (folder / "installed").exists():
        return None
    if name in NODE_CLIENTS and shutil.which("npm") is None:
        return f"{name}: there is no npm"
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    try:
        for command in commands(name, folder):
            subprocess.run(command, check=True, capture_output=True, text=True, timeout=max(1.0, seconds()), cwd=ROOT)
    except subprocess.TimeoutExpired:
        return f"{name}: not installed within the {INSTALL_SECONDS} s for all"
    except subprocess.CalledProcessError as error:
        return f"{name}: {' '.join(error.stderr.split())[-300:]}"
    (folder / "installed").touch()
    return None


def commands(name: str, folder: Path) -> list[list[str]]:
    if name in PYTHON_CLIENTS:
        uv = [sys.executable, "-m", "uv"]
        pip = [*uv, "pip", "install", "--quiet", "--python", str(folder / "bin/python"), *PYTHON_CLIENTS[name]]
        return [[*uv, "venv", "--quiet", "--clear", "--python", sys.executable, str(folder)], pip]
    npm = ["npm", "install", "--silent", "--no-audit", "--no-fund", "--prefix", str(folder)]
    return [[*npm, *NODE_CLIENTS[name]]]


def main() -> None:
    end = time.monotonic() + INSTALL_SECONDS
    names = [*NODE_CLIENTS, *PYTHON_CLIENTS]
    with ThreadPoolExecutor(AT_ONCE) as pool:
        for reason in pool.map(lambda name: install(name, lambda: end - time.monotonic()), names):
            if reason:
                sys.stdout.write(f"left out: {reason}\n")


if __name__ == "__main__":
    main()
