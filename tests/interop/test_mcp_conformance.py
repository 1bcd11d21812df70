"""The protocol's own conformance suite: all of it against a fixture, what needs none against the real `/mcp`.

Both servers are made by the same factory; they differ in the provider behind it.
"""

import json
import subprocess
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

from benchmarks.server_process import server_process
from tests.interop.clients import modules_of, node
from tests.judge import judged
from tests.server import running_server, write_config
from tests.services.conftest import AGENTS

NEEDS_NO_FIXTURE = {
    "2026-07-28": (
        "completion-complete", "tools-list", "server-sse-multiple-streams", "resources-list",
        "sep-2164-resource-not-found", "prompts-list", "dns-rebinding-protection", "caching", "http-header-validation",
        "input-required-result-unsupported-methods",
    ),
    "2025-11-25": (
        "server-initialize", "server-session-lifecycle", "logging-set-level", "ping", "completion-complete",
        "tools-list", "server-sse-multiple-streams", "resources-list", "resources-subscribe", "resources-unsubscribe",
        "prompts-list", "dns-rebinding-protection",
    ),
}  # fmt: skip

SUITES = {"0.1.16": "mcp-conformance-2025", "0.2.0-alpha.12": "mcp-conformance"}

pytestmark = judged


def suite(version: str) -> list[str]:
    """The command that runs that version."""
    return [node(), str(modules_of(SUITES[version]) / "@modelcontextprotocol/conformance/dist/index.js"), "server"]


@pytest.fixture(scope="module")
def fixture() -> Iterator[str]:
    with server_process("tests.mcp.fixture:app") as server:
        yield f"http://127.0.0.1:{server.port}/mcp"


@pytest.fixture(scope="module")
def product(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    root = tmp_path_factory.mktemp("conformance")
    folder = write_config(root / "config", AGENTS)
    (folder / "prompts/ask_v1.txt").write_text("one {{ question }}")
    with running_server(root / "home", folder) as running:
        yield f"{running.url}/mcp"


@pytest.mark.parametrize(
    ("version", "options", "least"),
    [
        ("0.1.16", [], 44),
        ("0.2.0-alpha.12", ["--spec-version", "2025-11-25"], 84),
        ("0.2.0-alpha.12", ["--spec-version", "2026-07-28"], 151),
    ],
)
def test_whole_suite(fixture: str, tmp_path: Path, version: str, options: list[str], least: int) -> None:
    """`least` is what the official SDK's own server passes there."""
    checks = run_suite(version, fixture, tmp_path, "--suite", "all", *options)
    failed = [(check["id"], check.get("errorMessage")) for check in checks if check["status"] == "FAILURE"]
    assert failed == []
    assert Counter(check["status"] for check in checks)["SUCCESS"] >= least


@pytest.mark.parametrize(
    ("revision", "scenario"), [(revision, name) for revision, names in NEEDS_NO_FIXTURE.items() for name in names]
)
def test_product(product: str, tmp_path: Path, revision: str, scenario: str) -> None:
    checks = run_suite("0.2.0-alpha.12", product, tmp_path, "--scenario", scenario, "--spec-version", revision)
    assert any(check["status"] == "SUCCESS" for check in checks)
    assert [check for check in checks if check["status"] == "FAILURE"] == []


def test_product_is_stateless_where_the_protocol_is(product: str, tmp_path: Path) -> None:
    """What fails needs tools of the fixture: one that asks for a capability, one that streams, one that logs."""
    options = ["--scenario", "server-stateless", "--spec-version", "2026-07-28"]
    checks = run_suite("0.2.0-alpha.12", product, tmp_path, *options)
    assert {check["id"] for check in checks if check["status"] == "FAILURE"} <= {
        "sep-2575-server-rejects-undeclared-capability",
        "sep-2575-missing-capability-http-400",
        "sep-2575-http-server-no-independent-requests-on-stream",
        "sep-2575-server-no-log-without-loglevel",
    }
    assert sum(check["status"] == "SUCCESS" for check in checks) >= 20


def run_suite(version: str, url: str, folder: Path, *options: str) -> list[dict]:
    subprocess.run(
        [*suite(version), "--url", url, "-o", str(folder), *options], capture_output=True, timeout=120, check=False
    )
    return [check for file in folder.rglob("checks.json") for check in json.loads(file.read_text())]
