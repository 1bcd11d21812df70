"""The protocol's own conformance suite against the real `/mcp`: every scenario that needs no fixture of its own."""

import json
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.server import Server, running_server, write_config
from tests.services.conftest import AGENTS

CACHE = Path(__file__).parents[2] / ".cache/interop-mcp-conformance"
PACKAGES = ("node@22.23.3", "@modelcontextprotocol/conformance@0.2.0-alpha.12")
SCENARIOS = {
    "2026-07-28": (
        "completion-complete", "tools-list", "server-sse-multiple-streams", "resources-list",
        "sep-2164-resource-not-found", "prompts-list", "dns-rebinding-protection", "caching", "http-header-validation",
    ),
    "2025-11-25": (
        "server-initialize", "ping", "completion-complete", "tools-list", "resources-list", "prompts-list",
        "dns-rebinding-protection",
    ),
}  # fmt: skip

pytestmark = pytest.mark.skipif(shutil.which("npm") is None, reason="the suite is installed by npm")


@pytest.fixture(scope="session")
def suite() -> list[str]:
    """The command that runs the suite, on a Node of its own."""
    if not (CACHE / "installed").exists():
        CACHE.mkdir(parents=True, exist_ok=True)
        install = ["npm", "install", "--silent", "--no-audit", "--no-fund", "--prefix", str(CACHE), *PACKAGES]
        subprocess.run(install, check=True, timeout=300)
        (CACHE / "installed").touch()
    modules = CACHE / "node_modules"
    return [str(modules / ".bin/node"), str(modules / "@modelcontextprotocol/conformance/dist/index.js"), "server"]


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    root = tmp_path_factory.mktemp("conformance")
    folder = write_config(root / "config", AGENTS)
    (folder / "prompts/ask_v1.txt").write_text("one {{ question }}")
    with running_server(root / "home", folder) as running:
        yield running


@pytest.mark.parametrize(
    ("version", "scenario"), [(version, name) for version, names in SCENARIOS.items() for name in names]
)
def test_scenario(suite: list[str], server: Server, tmp_path: Path, version: str, scenario: str) -> None:
    checks = run_scenario(suite, server, tmp_path, version, scenario)
    assert any(check["status"] == "SUCCESS" for check in checks)
    assert [check for check in checks if check["status"] == "FAILURE"] == []


def test_stateless_server(suite: list[str], server: Server, tmp_path: Path) -> None:
    """What fails needs tools of a fixture server: one that asks for a capability, one that streams, one that logs."""
    checks = run_scenario(suite, server, tmp_path, "2026-07-28", "server-stateless")
    assert {check["id"] for check in checks if check["status"] == "FAILURE"} <= {
        "sep-2575-server-rejects-undeclared-capability",
        "sep-2575-missing-capability-http-400",
        "sep-2575-http-server-no-independent-requests-on-stream",
        "sep-2575-server-no-log-without-loglevel",
    }
    assert sum(check["status"] == "SUCCESS" for check in checks) >= 20


def run_scenario(suite: list[str], server: Server, folder: Path, version: str, scenario: str) -> list[dict]:
    target = ["--url", f"{server.url}/mcp", "--scenario", scenario, "--spec-version", version, "-o", str(folder)]
    subprocess.run([*suite, *target], capture_output=True, timeout=60, check=False)
    [written] = folder.rglob("checks.json")
    return json.loads(written.read_text())
