"""The app as its callers meet it: a real server on the embedded workspace, with the configuration of this folder."""

[% if kind == "tools" %]
import json
[% endif %]
from collections.abc import Iterator
from pathlib import Path

import pytest
[% if kind in ("agent", "pipelines") %]
from lakemesh.client import ServerError
[% endif %]
[% if kind == "tools" %]
from lakemesh.testing import RunningServer, ScriptedModel, calls, serve
[% else %]
from lakemesh.testing import RunningServer, serve
[% endif %]

FOLDER = Path(__file__).parents[1]
[% if kind in ("tools", "analyst") %]
TABLES = {"main.sales.orders": FOLDER / "data/orders.csv"}
[% endif %]


@pytest.fixture(scope="module")
def server() -> Iterator[RunningServer]:
    with serve(FOLDER / "config"[% if kind in ("tools", "analyst") %], tables=TABLES[% endif %]) as running:
        yield running


def test_every_agent_started(server: RunningServer) -> None:
    parts = server.http.get("/health/ready").json()["parts"]
    assert parts["agents"]["degraded"] is None


def test_echo(server: RunningServer) -> None:
    assert server.execute("echo", {"message": "hello"}).result == {"message": "hello"}


[% if kind == "agent" %]
def test_assistant_answers(server: RunningServer) -> None:
    assert server.execute("assistant", {"question": "What is a lakehouse?"}, session_id="s1").result["answer"]


def test_an_empty_question_is_refused(server: RunningServer) -> None:
    with pytest.raises(ServerError) as refused:
        server.execute("assistant", {"question": ""})
    assert refused.value.status == 422
[% elif kind == "tools" %]
def test_the_shop_is_closed_on_sundays(server: RunningServer) -> None:
    assert server.execute("opening_hours", {"day": "2026-03-01"}).result == "closed"
    assert server.execute("opening_hours", {"day": "2026-03-02"}).result == "09:00 to 18:00"


def test_orders_are_looked_up(server: RunningServer) -> None:
    answer = server.execute("orders", {"statement": "SELECT sum(amount) AS total FROM main.sales.orders"})
    assert "244.05" in json.dumps(answer.result)


def test_the_assistant_uses_its_tools() -> None:
    """With a model that is a script: what a real one does is measured by `evaluation/`."""
    model = ScriptedModel(calls("opening_hours", day="2026-03-01"), "We are closed on Sundays.")
    with serve(FOLDER / "config", model=model, tables=TABLES) as server:
        answer = server.execute("assistant", {"message": "Are you open on the first of March?"})
        assert "closed" in json.dumps(answer.result)
        assert server.execution(answer).called == ["opening_hours"]
[% elif kind == "analyst" %]
def test_a_question_is_answered_from_the_table(server: RunningServer) -> None:
    result = server.execute("analyst", {"question": "How much revenue did we make in 2025?"}).result
    assert result["status"] == "answered"
    assert result["answers"][0]["rows"][0] == [244.05]


def test_what_the_table_cannot_answer_is_refused(server: RunningServer) -> None:
    assert server.execute("analyst", {"question": "How is the weather on Mars?"}).result["status"] == "refused"
[% elif kind == "pipelines" %]
def test_a_sentence_becomes_a_pipeline(server: RunningServer) -> None:
    result = server.execute("builder", {"request": "orders from CSV files, daily revenue by country"}).result
    assert any(name.endswith(".py") for name in result["files"])


def test_what_is_not_understood_is_refused_by_name(server: RunningServer) -> None:
    with pytest.raises(ServerError) as refused:
        server.execute("builder", {"request": "orders from CSV files, make me a sandwich"})
    assert "sandwich" in str(refused.value)
[% else %]
def test_assistants_have_it_as_a_tool(server: RunningServer) -> None:
    headers = {"accept": "application/json, text/event-stream", "mcp-protocol-version": "2025-06-18"}
    listed = server.http.post("/mcp", json={"jsonrpc": "2.0", "id": 1, "method": "tools/list"}, headers=headers)
    assert '"assistant"' in listed.text


def test_agents_find_it_as_a_skill(server: RunningServer) -> None:
    card = server.http.get("/.well-known/agent-card.json").json()
    assert "assistant" in [skill["id"] for skill in card["skills"]]


def test_client_apps_do_not_see_it(server: RunningServer) -> None:
    assert "assistant" not in [agent["name"] for agent in server.http.get("/api/agents").json()["agents"]]
[% endif %]
