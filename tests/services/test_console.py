"""What the console's pages are told, as anybody may ask it: whose work, before and after Delta has it."""

import re
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from tests.server import Server, running_server, write_config
from tests.services.conftest import AGENTS
from tests.services.console_world import TELEMETRY, WITH_TOKENS, console_server

PRIVATE = "ann's private words"
API = "/console/api"


def get(server: Server, path: str, user: str | None = None) -> httpx.Response:
    headers = {"authorization": f"Bearer {user}"} if user else {}
    return httpx.get(f"{server.url}{API}/{path}", headers=headers, timeout=60)


def ask(server: Server, agent: str, data: dict, user: str | None = None, session: str | None = None) -> dict:
    headers = {"authorization": f"Bearer {user}"} if user else {}
    body = {"agent": agent, "data": data, "session_id": session or "s"}
    answer = httpx.post(f"{server.url}/api/execute", json=body, headers=headers, timeout=60).json()
    return answer.get("metadata", answer)


def trace(server: Server, trace_id: str, user: str | None = None) -> dict:
    """The trace as the operator's page has it once it is complete."""
    for _ in range(200):
        found = get(server, f"traces/{trace_id}", user).json()
        if not found["pending"]:
            return found
    raise AssertionError("the trace did not reach Delta")


@pytest.fixture(scope="module")
def busy(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    root = tmp_path_factory.mktemp("console")
    folder = write_config(root / "config", AGENTS, more=TELEMETRY)
    with running_server(root / "home", folder) as server:
        for data in ({"message": "hello"}, {"message": 5}):
            ask(server, "caller", data)
        yield server


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Server, dict[str, dict]]]:
    """A server with tokens, and what ann did there, all of it in Delta."""
    with console_server(tmp_path_factory.mktemp("shared"), more=TELEMETRY + WITH_TOKENS) as server:
        done = {
            "talk": ask(server, "assistant", {"message": PRIVATE}, "ann", "visit"),
            "failed": ask(server, "trouble", {"mode": "raise"}, "ann"),
        }
        httpx.post(
            f"{server.url}/api/feedback",
            json={"execution_id": done["talk"]["execution_id"], "value": 0, "comment": PRIVATE},
            headers={"authorization": "Bearer ann"},
        )
        for one in done.values():
            trace(server, one["trace_id"], "root")
        for _ in range(200):
            if get(server, "session?session=visit&user=ann", "root").json()["feedback"]:
                break
        yield server, done


def test_trace_is_a_tree_with_content_in_order(busy: Server) -> None:
    rows = get(busy, "executions").json()["executions"]
    row = next(row for row in rows if row["agent_id"] == "caller" and row["success"])
    found = trace(busy, row["trace_id"])
    assert [(span["name"], span["depth"]) for span in found["spans"]] == [
        ("invoke_agent caller", 0), ("invoke_agent echo", 1),
    ]  # fmt: skip
    assert found["spans"][0]["input"] == {"message": "hello"}
    assert found["spans"][0]["output"]["answer"] == {"message": "hello"}
    assert [one["agent_id"] for one in found["executions"]] == ["caller", "echo"]


def test_filters_find_what_they_name(busy: Server) -> None:
    def agents(query: str) -> list[str]:
        return [row["agent_id"] for row in get(busy, f"executions?{query}").json()["executions"]]

    assert agents("") == ["caller", "caller"]
    assert sorted(agents("nested=true")) == ["caller", "caller", "echo", "echo"]
    assert agents("failed=true") == ["caller"]
    assert agents("agent=echo") == []
    assert agents("agent=echo&nested=true&user=local") == ["echo", "echo"]
    assert agents("end=1000") == agents("session=other") == []


def test_everybody_sees_their_own_work_and_nobody_else_s(shared: tuple[Server, dict]) -> None:
    server, done = shared
    talk, failed = done["talk"], done["failed"]
    paths = [
        "executions?nested=true", "executions?live=true&nested=true", f"executions?execution={talk['execution_id']}",
        "executions?user=ann", "sessions", "session?session=visit", "session?session=visit&user=ann", "overview",
        f"traces/{talk['trace_id']}", f"traces/{failed['trace_id']}",
    ]  # fmt: skip
    answers = {path: get(server, path, "bob") for path in paths}
    assert {answer.status_code for answer in answers.values()} == {200}
    assert not [path for path, answer in answers.items() if PRIVATE in answer.text or "ann" in answer.text]
    assert answers["overview"].json()["total"]["executions"] == 0
    assert answers[f"traces/{talk['trace_id']}"].json()["spans"] == []
    own = trace(server, talk["trace_id"], "ann")
    assert own["spans"][0]["input"] == {"message": PRIVATE}
    assert own["feedback"][0]["comment"] == PRIVATE
    assert get(server, "overview", "ann").json()["total"]["executions"] == 2


def test_a_guest_in_a_trace_sees_only_what_is_theirs(shared: tuple[Server, dict]) -> None:
    server, done = shared
    headers = {"authorization": "Bearer bob", "traceparent": f"00-{done['talk']['trace_id']}-b7ad6b7169203331-01"}
    body = {"agent": "echo", "data": {"message": "bob's words"}}
    httpx.post(f"{server.url}/api/execute", json=body, headers=headers)
    for _ in range(200):
        found = get(server, f"traces/{done['talk']['trace_id']}", "bob")
        if found.json()["spans"]:
            break
    assert [span["name"] for span in found.json()["spans"]] == ["invoke_agent echo"]
    assert PRIVATE not in found.text
    assert "bob's words" not in get(server, f"traces/{done['talk']['trace_id']}", "ann").text


def test_why_it_failed_is_for_operators(shared: tuple[Server, dict]) -> None:
    server, done = shared
    secret = "a secret detail of the implementation"
    assert secret not in get(server, f"traces/{done['failed']['trace_id']}", "ann").text
    spans = trace(server, done["failed"]["trace_id"], "root")["spans"]
    (event,) = spans[0]["events"]
    assert event["attributes"]["exception.message"] == secret
    assert "sample_agents.py" in event["attributes"]["exception.stacktrace"]


def test_dashboards_and_everybody_s_work_are_for_operators(shared: tuple[Server, dict]) -> None:
    server, _ = shared
    refused = get(server, "dashboards/slowest_executions", "ann")
    assert (refused.status_code, refused.json()["code"]) == (403, "permission_denied")
    assert get(server, "dashboards/slowest_executions", "root").json()["rows"]
    users = {row["user_id"] for row in get(server, "executions?nested=true", "root").json()["executions"]}
    assert {"ann"} <= users
    assert get(server, "me", "root").json()["operator"]
    assert not get(server, "me", "ann").json()["operator"]
    assert get(server, "me").status_code == 401


def test_what_happened_before_a_restart_is_there_and_counted_once(tmp_path: Path) -> None:
    with console_server(tmp_path) as server:
        before = ask(server, "echo", {"message": "before"}, session="kept")
        trace(server, before["trace_id"])
        assert get(server, "overview").json()["total"]["executions"] == 1
    with console_server(tmp_path) as server:
        assert get(server, "executions?live=true").json()["executions"] == []
        (row,) = get(server, "executions").json()["executions"]
        assert row["execution_id"] == before["execution_id"]
        ask(server, "echo", {"message": "after"}, session="kept")
        overview = get(server, "overview?hours=1").json()
        assert overview["total"]["executions"] == 2
        assert sum(point["executions"] for point in overview["over_time"]) == 2
        assert [(agent["agent"], agent["executions"]) for agent in overview["agents"]] == [("echo", 2)]
        turns = get(server, "session?session=kept").json()["turns"]
    assert turns[0]["execution_id"] == before["execution_id"]
    assert turns[0]["input_data"] == {"message": "before"}


def test_what_is_not_in_delta_yet_is_shown(tmp_path: Path) -> None:
    folder = write_config(tmp_path / "config", AGENTS, more="telemetry: {flush_seconds: 3600}")
    with running_server(tmp_path / "home", folder) as server:
        done = ask(server, "echo", {"message": "x"})
        assert [row["agent_id"] for row in get(server, "executions").json()["executions"]] == ["echo"]
        total = get(server, "overview").json()["total"]
        assert (total["executions"], total["failures"]) == (1, 0)
        assert total["p50_ms"] == total["p95_ms"]
        found = get(server, f"traces/{done['trace_id']}").json()
        assert (found["pending"], found["spans"], len(found["executions"])) == (True, [], 1)


def test_page_may_load_nothing_from_elsewhere(busy: Server) -> None:
    page = httpx.get(busy.url)
    policy = page.headers["content-security-policy"]
    assert "default-src 'self'" in policy
    assert "unsafe" not in policy
    assert not re.search(r"https?://", page.text)
    names = re.findall(r'(?:href|src)="(console/[^"]+)"', page.text)
    scripts = [name for name in names if name.endswith(".js")]
    while scripts:
        text = httpx.get(f"{busy.url}/{scripts.pop()}").text
        for name in re.findall(r'from "\./([^"]+)"', text):
            if f"console/{name}" not in names:
                names.append(f"console/{name}")
                scripts.append(f"console/{name}")
    assert len(names) > 10
    for name in names:
        answer = httpx.get(f"{busy.url}/{name}")
        assert answer.status_code == 200, name
        assert "innerHTML" not in answer.text


@pytest.mark.parametrize(
    ("path", "status"),
    [
        ("/console/../app.py", 404), ("/console/api.py", 404), ("/console/%2e%2e/rest.py", 404),
        (f"{API}/dashboards/nothing", 404), (f"{API}/dashboards/slowest_executions?hours=-1", 422),
        (f"{API}/dashboards/slowest_executions?hours=x", 422), (f"{API}/executions?hours=nan", 422),
        (f"{API}/executions?end=x", 422), (f"{API}/executions?other=1", 422), (f"{API}/session", 404),
        (f"{API}/executions?agent=%27%20OR%201%3D1%20--", 200), (f"{API}/traces/' OR '1'='1", 404),
        (f"{API}/dashboards/slowest_executions", 200),
    ],
)  # fmt: skip
def test_bad_requests_are_designed(busy: Server, path: str, status: int) -> None:
    assert httpx.get(busy.url + path).status_code == status


def test_filters_are_parameters_never_sql(busy: Server) -> None:
    assert get(busy, "executions?agent=%27%20OR%201%3D1%20--&nested=true").json()["executions"] == []
