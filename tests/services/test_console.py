"""The console in a real browser, and its API as anybody may call it."""

import html
import json
import re
import shutil
import subprocess
from pathlib import Path

import httpx
import pytest

from tests.server import Server, running_server, write_config
from tests.services.conftest import AGENTS

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
OPTIONS = [
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--virtual-time-budget=5000",
    "--dump-dom",
]
needs_browser = pytest.mark.skipif(CHROMIUM is None, reason="needs a Chromium on PATH")


def shown(server: Server, page: str, profile: Path) -> str:
    """The page's text once its scripts have run."""
    command = [str(CHROMIUM), *OPTIONS, f"--user-data-dir={profile}", f"{server.url}/#{page}"]
    dom = subprocess.run(command, capture_output=True, text=True, timeout=60).stdout
    main = dom[dom.index("<main") : dom.index("</main>")]
    return html.unescape(" ".join(re.sub(r"<[^>]+>", " ", main).split()))


@pytest.fixture(scope="module")
def busy(tmp_path_factory: pytest.TempPathFactory):
    root = tmp_path_factory.mktemp("console")
    folder = write_config(root / "config", AGENTS, more="telemetry: {flush_seconds: 0.1}")
    with running_server(root / "home", folder) as server:
        for data in ({"message": "hello"}, {"message": 5}):
            httpx.post(f"{server.url}/execute", json={"agent": "caller", "data": data})
        yield server


def trace_of(server: Server) -> str:
    rows = httpx.get(f"{server.url}/console/api/executions").json()["executions"]
    return next(row["trace_id"] for row in rows if row["agent"] == "caller" and row["outcome"] == "ok")


def wait_for_spans(server: Server, trace_id: str) -> list[dict]:
    for _ in range(500):
        spans = httpx.get(f"{server.url}/console/api/traces/{trace_id}").json().get("spans")
        if spans:
            return spans
    raise AssertionError("the trace did not reach Delta")


@needs_browser
def test_pages_show_what_the_server_knows(busy: Server, tmp_path: Path) -> None:
    wait_for_spans(busy, trace_of(busy))
    assert "Writes the words it is given" in shown(busy, "agents", tmp_path)
    assert "words (JSON) *" in shown(busy, "agents/writer", tmp_path)
    executions = shown(busy, "executions", tmp_path)
    assert "caller" in executions
    assert "validation_failed" in executions
    trace = shown(busy, f"traces/{trace_of(busy)}", tmp_path)
    assert "invoke_agent caller" in trace
    assert "invoke_agent echo" in trace
    dashboards = shown(busy, "dashboards", tmp_path)
    assert "Error rate by agent" in dashboards
    assert "Share of failed executions" in dashboards
    assert "This server is degraded" in shown(busy, "health", tmp_path)


def test_trace_is_a_tree_in_order(busy: Server) -> None:
    spans = wait_for_spans(busy, trace_of(busy))
    assert [(span["name"], span["depth"]) for span in spans] == [("invoke_agent caller", 0), ("invoke_agent echo", 1)]


def test_page_may_load_nothing_from_elsewhere(busy: Server) -> None:
    page = httpx.get(busy.url)
    assert "default-src 'self'" in page.headers["content-security-policy"]
    assert not re.search(r"https?://", page.text)
    for name in re.findall(r'(?:href|src)="(console/[^"]+)"', page.text):
        assert httpx.get(f"{busy.url}/{name}").status_code == 200


@pytest.mark.parametrize(
    ("path", "status"),
    [
        ("/console/../app.py", 404), ("/console/api.py", 404), ("/console/%2e%2e/rest.py", 404),
        ("/console/api/dashboards/nothing", 404), ("/console/api/dashboards/slowest_executions?hours=-1", 400),
        ("/console/api/dashboards/slowest_executions?hours=x", 400),
        ("/console/api/dashboards/slowest_executions", 200),
    ],
)  # fmt: skip
def test_bad_requests_are_designed(busy: Server, path: str, status: int) -> None:
    assert httpx.get(busy.url + path).status_code == status


def test_trace_id_is_a_parameter_never_sql(busy: Server) -> None:
    assert httpx.get(f"{busy.url}/console/api/traces/' OR '1'='1").json() == {"spans": []}


def test_only_operators_see_the_console(tmp_path: Path) -> None:
    folder = write_config(tmp_path / "config", AGENTS, more="console: {operators: [ann]}")
    with running_server(tmp_path / "home", folder) as server:
        answer = httpx.get(f"{server.url}/console/api/executions")
    assert answer.status_code == 403
    assert json.loads(answer.text)["code"] == "permission_denied"
