"""The console's pages as people use them, in a real browser."""

import json
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from tests.browser import Browser, Page, needs_browser, running_browser
from tests.interop.clients import modules_of
from tests.server import Server, running_server, write_config
from tests.services.console_world import TELEMETRY, WITH_TOKENS, console_server, write_history

pytestmark = needs_browser
PAGES = (
    "overview", "chat", "agents", "agents/writer", "executions", "sessions", "sessions/visit?user=local", "budgets",
    "dashboards", "health",
)  # fmt: skip
CANVASES = "document.querySelectorAll('.vega canvas').length"


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    with running_browser(tmp_path_factory.mktemp("profile")) as browser:
        yield browser


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """With a day of work of a process that is gone."""
    root = tmp_path_factory.mktemp("console")
    write_history(root, executions=40)
    with console_server(root) as server:
        ask(server, "assistant", {"message": "Hello"}, "visit")
        yield server


@pytest.fixture
def page(browser: Browser) -> Iterator[Page]:
    with browser.page() as page:
        page.look(width=1280)
        yield page
        assert page.problems == []


def ask(server: Server, agent: str, data: dict, session: str = "s") -> httpx.Response:
    body = {"agent": agent, "data": data, "session_id": session}
    return httpx.post(f"{server.url}/api/execute", json=body, timeout=60)


def test_overview_leads_to_what_is_behind_each_figure(server: Server, page: Page) -> None:
    page.open(server.url)
    page.wait_for_text("Requests", "Median latency", "By agent", "assistant")
    page.click("a.card", "Failed")
    page.wait_for("location.hash.includes('failed=true')")
    page.wait_for_text("Executions", "agent_failed")
    assert page.evaluate("[...document.querySelectorAll('tbody .badge.good')].length") == 0


def test_a_chat_streams_calls_tools_keeps_its_session_and_takes_feedback(server: Server, page: Page) -> None:
    page.open(f"{server.url}/#chat/assistant")
    page.type("#message", "What is 30 days after the 20th?")
    page.press("Enter")
    page.wait_for_text("add_days", "That is 2026-12-20", "tokens")
    page.type("#message", "Thanks")
    page.press("Enter")
    page.wait_for_text("You are welcome")
    page.click(".thumb.up")
    page.wait_for_text("Thank you.")
    page.evaluate("location.reload()")
    page.wait_for_text("That is 2026-12-20", "You are welcome")
    page.click(".title a", "Session")
    page.wait_for_text("Session", "30 days after", "You are welcome", "good")


def test_a_trace_shows_itself_when_it_has_arrived(server: Server, page: Page) -> None:
    answer = ask(server, "assistant", {"message": "What is 30 days after the 20th?"}).json()
    page.open(f"{server.url}/#traces/{answer['metadata']['trace_id']}")
    page.wait_for_text("add_days", "Began after")
    page.click(".spans button", "claude-sonnet")
    page.wait_for_text("Messages", "You help with dates", "calls add_days", "100 in, 10 out")
    page.evaluate("document.querySelector('.spans button').focus()")
    page.press("ArrowDown")
    assert page.evaluate("document.activeElement.hasAttribute('aria-current')")
    page.click("main p a", "assistant")
    page.wait_for("location.hash.startsWith('#executions/')")
    page.wait_for_text("Input", "30 days after the 20th", "Open the trace")


def test_an_agent_is_tried_by_a_form_with_examples_and_errors_at_their_fields(server: Server, page: Page) -> None:
    page.open(f"{server.url}/#agents/writer")
    page.wait_for_text("words", "pause seconds")
    page.click("main form button", "Run")
    page.wait_for_text("Hello", "trace")
    page.evaluate("document.querySelector('input[type=number]').value = 99")
    page.click("main form button", "Run")
    page.wait_for("document.activeElement.getAttribute('aria-invalid') === 'true'")
    assert "less than or equal to 60" in page.text()
    page.evaluate("document.querySelector('input[type=number]').value = 50")
    page.click("main form button", "Run")
    page.wait_for_text("running")
    page.click("main form button", "Cancel")
    page.wait_for_text("cancelled")


def test_questions_are_answered_by_forms(server: Server, page: Page) -> None:
    page.open(f"{server.url}/#agents/asker")
    page.click("main form button", "Run")
    page.wait_for_text("Which color?")
    page.wait_for("Boolean(document.querySelector('.question input'))")
    page.evaluate("document.querySelector('.question input').value = 'blue'")
    page.click(".question button", "Answer")
    page.wait_for_text("Are you sure?")
    page.click(".question input")
    page.click(".question button", "Answer")
    page.wait_for_text('"color": "blue"', '"sure": true')


def test_focus_stays_while_executions_come_in(server: Server, page: Page) -> None:
    page.open(f"{server.url}/#executions?agent=echo")
    page.wait_for_text("echo", "open")
    page.evaluate("document.querySelector('tbody a').focus()")
    rows = page.evaluate("document.querySelectorAll('tbody tr').length")
    ask(server, "echo", {"message": "new"})
    page.wait_for(f"document.querySelectorAll('tbody tr').length > {rows}")
    assert page.evaluate("document.activeElement.closest('tbody') !== null")
    page.evaluate("document.querySelector('#filter-nested').focus()")
    page.click("#filter-nested")
    page.wait_for("location.hash.includes('nested=true') && document.body.dataset.shown.includes('nested')")
    assert page.evaluate("document.activeElement.id") == "filter-nested"


def test_dashboards_are_charts_with_the_library(server: Server, page: Page) -> None:
    page.open(f"{server.url}/#dashboards")
    page.wait_for(f"{CANVASES} >= 6")
    page.wait_for_text("As a table")


def test_dashboards_are_tables_without_it(server: Server, page: Page, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("lakemesh.services.console.assets.installed_version", lambda: None)
    page.open(f"{server.url}/#dashboards")
    page.wait_for_text("Charts appear with the extra", "error rate", "p95 ms")
    assert page.evaluate(CANVASES) == 0
    assert httpx.get(f"{server.url}/console/vega.js").status_code == 404


@pytest.mark.parametrize(("width", "dark"), [(1280, False), (360, True)])
def test_every_page_fits_the_window_in_both_themes(server: Server, page: Page, width: int, dark: bool) -> None:
    page.look(width=width, dark=dark)
    for name in PAGES:
        page.open(f"{server.url}/#{name}")
        page.wait_for(f"document.body?.dataset.shown === '#{name}'")
        assert page.evaluate("document.documentElement.scrollWidth <= innerWidth"), name
    assert page.evaluate("getComputedStyle(document.body).backgroundColor") == (
        "rgb(14, 19, 24)" if dark else "rgb(244, 246, 248)"
    )


@pytest.mark.parametrize("dark", [False, True])
def test_accessibility_has_no_serious_findings(server: Server, page: Page, dark: bool) -> None:
    script = modules_of("axe") / "axe-core" / "axe.min.js"
    page.look(width=1280, dark=dark)
    trace_id = ask(server, "assistant", {"message": "Hello"}).json()["metadata"]["trace_id"]
    for name in (*PAGES, f"traces/{trace_id}"):
        page.open(f"{server.url}/#{name}")
        page.wait_for(f"document.body?.dataset.shown === '#{name}'")
        if name.startswith("traces"):
            page.wait_for_text("Began after")
        page.evaluate(script.read_text() + "; undefined")
        found = page.evaluate("axe.run().then((result) => JSON.stringify(result.violations))")
        serious = [
            (one["id"], node["html"], node["failureSummary"])
            for one in json.loads(found)
            if one["impact"] in ("serious", "critical")
            for node in one["nodes"]
        ]
        assert serious == [], name


def test_sign_in_by_token_is_for_this_tab_and_shows_one_s_own_work(
    browser: Browser, tmp_path_factory: pytest.TempPathFactory
) -> None:
    with console_server(tmp_path_factory.mktemp("tokens"), more=TELEMETRY + WITH_TOKENS) as server:
        body = {"agent": "echo", "data": {"message": "ann's private words"}, "session_id": "hers"}
        httpx.post(f"{server.url}/api/execute", json=body, headers={"authorization": "Bearer ann"})
        with browser.page() as page:
            page.open(server.url)
            sign_in(page, "wrong")
            page.wait_for("document.querySelector('main [role=alert]') !== null")
            sign_in(page, "ann")
            page.wait_for_text("Overview", "By agent", "echo")
            page.open(f"{server.url}/#sessions/hers?user=ann")
            page.wait_for_text("ann's private words")
            assert page.evaluate("document.cookie") == ""
            page.click("#caller button", "Sign out")
            page.wait_for_text("Sign in")
        with browser.page() as page:
            page.open(f"{server.url}/#overview")
            sign_in(page, "bob")
            page.wait_for_text("Nothing ran in this time.")
            assert "Dashboards" not in page.evaluate("document.querySelector('nav').innerText")
            page.open(f"{server.url}/#sessions/hers?user=ann")
            page.wait_for_text("Nothing of this session is there.")
            assert "private" not in page.text()


def sign_in(page: Page, token: str) -> None:
    page.wait_for_text("Sign in")
    while page.evaluate("document.querySelector('#token')?.value") != token:  # the form may be drawn once more
        page.type("#token", token)
    page.click("main button", "Sign in")


def test_durable_invocations_are_followed_and_their_questions_answered(
    page: Page, tmp_path: Path, postgres: str
) -> None:
    config = write_config(tmp_path / "config", '  asker: {class: "tests.invocations.agents:Asker"}')
    with running_server(tmp_path / "home", config, database=postgres) as server:
        body = {"agent": "asker", "background": True}
        accepted = httpx.post(f"{server.url}/api/invocations", json=body, timeout=60)
        assert accepted.status_code == 202
        page.open(f"{server.url}/#invocations")
        page.wait_for_text("asker", "waiting")
        page.click("tbody a")
        page.wait_for_text("Events", "asked")
        page.click(".question button", "Decline")
        page.wait_for_text("failed", "Run it again", "Error")


def test_a_person_approves_on_a_page_of_what_it_shows(page: Page, tmp_path: Path, postgres: str) -> None:
    agents = '  careful: {class: "tests.governance.agents:Careful"}'
    config = write_config(tmp_path / "config", agents, "approvals: {four_eyes: false}")
    with running_server(tmp_path / "home", config, database=postgres) as server:
        body = {"agent": "careful", "input": {"what": "main.sales.old"}, "background": True}
        accepted = httpx.post(f"{server.url}/api/invocations", json=body, timeout=60).json()
        page.open(f"{server.url}/#approvals?status=pending")
        page.wait_for_text("delete main.sales.old", "pending")
        page.click("tbody a")
        page.wait_for_text("What changes", "- 3 rows", "$0.25", "Asked by", "local")
        page.type("#comment", "They are old.")
        page.click(".question button", "Approve")
        page.wait_for_text("approved by local", "They are old.")
        page.open(f"{server.url}/#invocations/{accepted['id']}")
        page.wait_for_text("completed", "approved_by")


def test_what_is_left_of_budgets_is_on_a_page(server: Server, page: Page) -> None:
    ask(server, "echo", {"message": "counted"})
    page.open(f"{server.url}/#budgets")
    page.wait_for_text("each-user", "calls", "5,000", "Everybody's", "this server alone")


def test_pages_work_behind_a_prefix_of_a_proxy(server: Server) -> None:
    text = httpx.get(server.url).text
    assert 'src="console/console.js"' in text
    assert 'href="/' not in text
