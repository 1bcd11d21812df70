"""The clients and generators that others wrote, each in an environment of its own below `.cache/`.

    python -m tests.interop.clients        install what is missing

Their pins exclude each other and ours. A test that finds its client missing says in one line how to get it.
"""

import subprocess
import sys
from pathlib import Path

import pytest

CACHE = Path(__file__).parents[2] / ".cache"
INSTALL_SECONDS = 900
PYTHON_CLIENTS = {
    "fastmcp-2": ("fastmcp==2.14.7",),
    "fastmcp-4": ("fastmcp==4.1.2",),
    "langchain": ("langchain-mcp-adapters==0.3.2",),
    "openai-agents": ("openai-agents==0.24.0",),
    "pydantic-ai": ("pydantic-ai-slim[mcp]==2.68.0",),
    "mcp-2025-03-26": ("pydantic==2.11.10", "mcp==1.9.4"),
    "a2a-0.3": ("a2a-sdk==0.3.26",),
    "google-adk": ("google-adk[a2a]==2.13.0",),
    "agent-framework": ("agent-framework-a2a==1.0.0b261022",),
    "openapi": (
        "openapi-spec-validator==0.7.2",
        "openapi-python-client==0.29.1",
        "urllib3==2.8.0",
        "python-dateutil==4.0.0",
        "openapi-generator-cli==7.26.0",
    ),
}
"""The environment's name, and what pip installs in it."""
NODE_CLIENTS = {
    "inspector": ("@modelcontextprotocol/inspector@0.15.0",),
    "a2a-js": ("@a2a-js/sdk@1.3.0",),
    "axe": ("axe-core@4.14.1",),
    "openapi-typescript": ("openapi-typescript@7.13.0", "@types/node@22.20.5", "typescript@5.9.3"),
}
NODE = "node@22.23.3"


def python_of(name: str) -> str:
    """The interpreter of a Python client's environment; the test is skipped where it is not installed."""
    return str(installed(name) / "bin/python")


def modules_of(name: str) -> Path:
    """`node_modules` of a Node client's environment."""
    return installed(name) / "node_modules"


def installed(name: str) -> Path:
    folder = folder_of(name)
    if not (folder / "installed").exists():
        pytest.skip(f"{name} is not installed; `make judge-clients` does it")
    return folder


def folder_of(name: str) -> Path:
    """Changes with the pins, so that another version is another environment."""
    packages = PYTHON_CLIENTS.get(name) or (NODE, *NODE_CLIENTS[name])
    pin = packages[-1].rpartition("==")[2].rpartition("@")[2]
    return CACHE / f"client-{name}-{pin}"


def install(name: str) -> None:
    folder = folder_of(name)
    if (folder / "installed").exists():
        return
    folder.mkdir(parents=True, exist_ok=True)
    for command in commands(name, folder):
        subprocess.run(command, check=True, timeout=INSTALL_SECONDS)
    (folder / "installed").touch()


def commands(name: str, folder: Path) -> list[list[str]]:
    if name in PYTHON_CLIENTS:
        pip = [str(folder / "bin/python"), "-m", "pip", "install", "--quiet", *PYTHON_CLIENTS[name]]
        return [[sys.executable, "-m", "venv", str(folder)], pip]
    npm = ["npm", "install", "--silent", "--no-audit", "--no-fund", "--prefix", str(folder)]
    return [[*npm, NODE, *NODE_CLIENTS[name]]]


def main() -> None:
    failed = []
    for name in (*PYTHON_CLIENTS, *NODE_CLIENTS):
        try:
            install(name)
        except subprocess.SubprocessError as error:
            failed.append(f"{name}: {error}")
    sys.exit("\n".join(failed) or None)


if __name__ == "__main__":
    main()
