"""The analyst on a real server: a model that lies, Genie on the emulator, spaces that hang, and what it asks back."""

import asyncio
import json
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
import yaml

from lakemesh.agents.analyst.schemas import AnalystOptions, Domain
from lakemesh.agents.analyst.semantic_model import SemanticModel
from lakemesh.emulator.accounts import Accounts
from lakemesh.emulator.genie import ScriptedAnswer, Space
from tests.agents.analyst.demo_server import agents, ask, demo_server, fill
from tests.agents.test_tool_agent import MODELS
from tests.emulator import served as made
from tests.emulator.served import Emulator, serve
from tests.models.scripted_server import ScriptedServer, completion
from tests.models.scripted_thread import scripted_model
from tests.server import MODELS as OFFLINE
from tests.server import Server, running_server, write_config

DEMO_ORDERS = agents()["analyst"]["options"]["domains"]["orders"]


@pytest.fixture(scope="module")
def liar(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Server, ScriptedServer]]:
    with (
        scripted_model(completion("unscripted")) as model,
        demo_server(tmp_path_factory.mktemp("liar"), MODELS.format(url=model.base_url)) as server,
    ):
        yield server, model


def by_model(liar: tuple[Server, ScriptedServer], text: str, question: str, session: str | None = None) -> dict:
    server, model = liar
    model.script, model.requests = [completion(text)], []
    response = ask(server, question, session)
    assert response.status_code == 200, response.text
    return response.json()


def test_numbers_that_nobody_counted_are_removed_and_told(liar: tuple[Server, ScriptedServer]) -> None:
    counted = {row[0]: row[1] for row in by_model(liar, "x", "customers by plan")["result"]["answers"][0]["rows"]}
    free, plus, whole = counted["free"], counted["plus"], sum(counted.values())
    true = [
        f"There are {whole:,} customers.",
        f"Free leads plus by {free - plus}.",
        f"That is a share of {100 * free / whole:.1f}%.",
    ]
    lies = ["Growth was 17.3 percent.", f"Premium will reach {free + 4321} soon.", "Half a million people love us."]
    answer = by_model(liar, " ".join([true[0], lies[0], true[1], lies[1], lies[2], true[2]]), "customers by plan")
    result = answer["result"]
    assert result["text"] == " ".join(true)
    assert result["removed"] == lies
    assert any("do not support" in reason for reason in answer["metadata"]["degraded"])


def test_a_text_of_lies_alone_becomes_stated_facts(liar: tuple[Server, ScriptedServer]) -> None:
    result = by_model(liar, "We made 999,999,999 EUR.", "How many tickets are open?")["result"]
    count = result["answers"][0]["rows"][0][0]
    assert result["text"] == f"support: open tickets {count}."
    assert result["removed"] == ["We made 999,999,999 EUR."]


def test_a_model_is_not_asked_about_what_nobody_knows(liar: tuple[Server, ScriptedServer]) -> None:
    result = by_model(liar, "It will rain.", "What is the weather tomorrow?")["result"]
    assert result["status"] == "refused"
    assert "rain" not in json.dumps(result)
    assert liar[1].requests == []


def test_a_session_is_its_users_and_another_starts_anew(liar: tuple[Server, ScriptedServer]) -> None:
    by_model(liar, "Done.", "tickets by priority", "mine")
    assert by_model(liar, "Done.", "and in 2025?", "mine")["result"]["status"] == "answered"
    assert by_model(liar, "Done.", "and in 2025?", "other")["result"]["status"] != "answered"


def test_an_ambiguous_word_is_asked_about(tmp_path: Path) -> None:
    domain = json.loads(json.dumps(DEMO_ORDERS))
    domain["semantic_model"]["metrics"]["revenue"]["synonyms"].append("volume")
    domain["semantic_model"]["metrics"]["units_sold"]["synonyms"].append("volume")
    config = {"analyst": {"class": "analyst", "options": {"domains": {"orders": domain}}}}
    text = "".join(f"  {line}\n" for line in yaml.safe_dump(config).splitlines())
    asyncio.run(fill(tmp_path / "home"))
    with running_server(tmp_path / "home", write_config(tmp_path / "config", text)) as server:
        result = ask(server, "volume by country").json()["result"]
        assert result["status"] == "unclear"
        assert "revenue" in result["text"]
        assert "units sold" in result["text"]
        assert answered_with(server, "volume by country", "revenue")["answers"][0]["columns"] == ["country", "revenue"]


def answered_with(server: Server, question: str, choice: str) -> dict:
    """The answer to a streamed question, after `choice` was given to what the agent asked."""
    body = {"agent": "analyst", "data": {"question": question}}
    headers = {"accept": "text/event-stream"}
    name, asked = "", 0
    with httpx.stream("POST", f"{server.url}/api/execute", json=body, headers=headers, timeout=60) as response:
        for line in response.iter_lines():
            if line.startswith("event: "):
                name = line.removeprefix("event: ")
            elif line.startswith("data: ") and name == "asked":
                told = json.loads(line.removeprefix("data: "))
                given = {"question_id": told["question_id"], "value": {"choice": choice}}
                answer = httpx.post(f"{server.url}/api/executions/{told['execution_id']}/answer", json=given)
                assert answer.status_code == 204, answer.text
                asked += 1
            elif line.startswith("data: ") and name == "completed":
                assert asked == 1
                return json.loads(line.removeprefix("data: "))["result"]
    raise AssertionError("the answer did not come")


@pytest.mark.parametrize(
    ("change", "fault"),
    [
        ({"joins": [{"many": "orders.product_id", "one": "nothing.id"}]}, "there is no table 'nothing'"),
        ({"metrics": {"x": {"aggregate": "sum"}}}, "a metric is an"),
        ({"metrics": {"x": {"numerator": "gone", "denominator": "x"}}}, "'gone' is no metric"),
        ({"dimensions": {"d": {"column": "orders; drop.x"}}}, "should match pattern"),
    ],
)
def test_faults_of_a_model_are_named(change: dict, fault: str) -> None:
    with pytest.raises(ValueError, match=fault):
        SemanticModel.model_validate({**DEMO_ORDERS["semantic_model"], **change})


def test_a_domain_needs_a_source() -> None:
    with pytest.raises(ValueError, match="'space_id', a 'semantic_model' or both"):
        AnalystOptions(domains={"orders": Domain(description="nobody answers")})


MODEL = SemanticModel.model_validate(
    {
        "tables": {"stock": {"name": "main.shop.stock"}},
        "metrics": {"pieces": {"aggregate": "sum", "column": "stock.pieces", "synonyms": ["stock"]}},
        "dimensions": {"place": {"column": "stock.place", "values": {"Rome": [], "Oslo": []}}},
    }
)
SPACES = [
    Space(
        space_id="stock",
        semantic_model=MODEL,
        answers=[ScriptedAnswer(when="and how much rain", query="SELECT sum(pieces) AS pieces FROM main.shop.stock")],
    ),
    Space(
        space_id="weather",
        answers=[
            ScriptedAnswer(
                when="rain and sun",
                query="SELECT 7 AS millimetres",
                more=["SELECT 'Rome' AS place, 9 AS hours"],
                suggested_questions=["And tomorrow?"],
            ),
            ScriptedAnswer(when="secret rain", query="SELECT * FROM main.shop.stock"),
            ScriptedAnswer(when="rain", text="Wet.", query="SELECT 7 AS millimetres"),
            ScriptedAnswer(when="hail", status="FAILED"),
        ],
    ),
]
TOKENS = {"emulator-token": "admin@example.com", "token-ann": "ann@example.com"}
ANN = {"x-forwarded-user": "ann@example.com"}
GENIE = """
  analyst:
    class: analyst
    timeout_seconds: 20
    options:
      share: 0.3
      domains:
        warehouse: {description: "Pieces in stock by place, of the warehouse.", space_id: stock}
        weather: {description: "Rain and weather by day.", space_id: weather}
  liked:
    class: analyst
    options: {preferences: true, domains: {stock: {description: Pieces by place., space_id: stock}}}
  mine: {class: analyst, on_behalf_of_user: true, options: {domains: {weather: {description: rain, space_id: weather}}}}
"""


@pytest.fixture(scope="module")
def genie(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Server, Emulator]]:
    root = tmp_path_factory.mktemp("genie")
    accounts = Accounts(tokens=TOKENS, principals=made.ACCOUNTS.principals)
    with serve(root / "emulator", accounts=accounts, spaces=SPACES) as emulator:
        for statement in (
            "CREATE TABLE main.shop.stock (place STRING, pieces BIGINT)",
            "INSERT INTO main.shop.stock VALUES ('Rome', 3), ('Rome', 4), ('Oslo', 5)",
        ):
            body = {"statement": statement, "warehouse_id": "emulator", "wait_timeout": "50s"}
            answer = emulator.call("POST", "/api/2.0/sql/statements", body).json()
            assert answer["status"]["state"] == "SUCCEEDED", answer
        config = f"agents:\n{GENIE}\n{OFFLINE}\n"
        file = f"{emulator.url}/api/2.0/fs/files/Volumes/main/agents/configs/lakemesh.yaml"
        httpx.put(
            file, content=config, headers={"authorization": f"Bearer {made.TOKEN}"}, params={"overwrite": "true"}
        ).raise_for_status()
        with pytest.MonkeyPatch.context() as environment:
            for name, value in {
                "DATABRICKS_APP_NAME": "mesh",
                "DATABRICKS_HOST": emulator.url,
                "DATABRICKS_CLIENT_ID": "emulator-client",
                "DATABRICKS_CLIENT_SECRET": "emulator-secret",
                "LAKEMESH_WAREHOUSE_ID": "emulator",
            }.items():
                environment.setenv(name, value)
            with running_server(root / "home", root, workspace="databricks") as server:
                yield server, emulator


def test_genie_answers_by_a_semantic_model_and_follows_up(genie: tuple[Server, Emulator]) -> None:
    server, emulator = genie
    emulator.clear()
    first = ask(server, "pieces by place", "s1", **ANN).json()["result"]
    assert first["answers"][0]["rows"] == [["Rome", 7], ["Oslo", 5]], first
    second = ask(server, "only in Oslo", "s1", **ANN).json()["result"]
    assert second["answers"][0]["rows"] == [["Oslo", 5]], second
    paths = [one["path"] for one in emulator.requests() if "/genie/" in one["path"]]
    assert sum(path.endswith("start-conversation") for path in paths) == 1
    assert sum(path.endswith("/messages") for path in paths) == 1
    assert any(path.endswith("/query-result") for path in paths)
    assert ask(server, "pieces by colour of the warehouse", **ANN).json()["result"]["status"] == "refused"


def test_a_space_that_hangs_costs_its_share_and_is_named(genie: tuple[Server, Emulator]) -> None:
    server, emulator = genie
    emulator.clear()
    emulator.fault(path=".*/spaces/weather/.*", times=100, delay_seconds=60.0)
    started = time.monotonic()
    answer = ask(server, "How many pieces in stock, and how much rain?", **ANN).json()
    waited = time.monotonic() - started
    emulator.clear()
    by_domain = {one["domain"]: one for one in answer["result"]["answers"]}
    assert by_domain["warehouse"]["rows"] == [[12]], answer
    assert by_domain["weather"]["error"] == "deadline_exceeded"
    assert "weather did not answer" in answer["result"]["text"]
    assert waited < 20
    assert answer["metadata"]["degraded"]


def test_every_query_of_an_answer_is_read_and_suggestions_are_kept(genie: tuple[Server, Emulator]) -> None:
    answers = ask(genie[0], "How much rain and sun?", **ANN).json()["result"]["answers"]
    assert [one["rows"] for one in answers] == [[[7]], [["Rome", 9]]]
    assert [one["columns"] for one in answers] == [["millimetres"], ["place", "hours"]]
    assert answers[0]["suggested_questions"] == ["And tomorrow?"]


def test_a_rating_reaches_the_space_that_answered(genie: tuple[Server, Emulator]) -> None:
    server, emulator = genie
    ask(server, "pieces by place", "rated", **ANN)
    emulator.clear()
    body = {"agent": "analyst", "data": {"question": "good", "rating": "positive"}, "session_id": "rated"}
    answer = httpx.post(f"{server.url}/api/execute", json=body, headers=ANN, timeout=60).json()
    assert answer["result"]["status"] == "noted", answer
    [sent] = [one["path"] for one in emulator.requests() if "/feedback" in one["path"]]
    message = emulator.call("GET", sent.removesuffix("/feedback")).json()
    assert message["feedback"] == {"rating": "POSITIVE"}
    other = httpx.post(f"{server.url}/api/execute", json=body | {"session_id": "new"}, headers=ANN, timeout=60)
    assert (other.status_code, other.json()["code"]) == (400, "invalid_request")


def test_a_question_that_a_space_fails_at_is_its_designed_error(genie: tuple[Server, Emulator]) -> None:
    answer = ask(genie[0], "weather with hail?", **ANN)
    assert (answer.status_code, answer.json()["code"]) == (503, "unavailable")


def test_rows_that_a_user_may_not_see_are_an_error_and_not_nothing(genie: tuple[Server, Emulator]) -> None:
    headers = {**ANN, "x-forwarded-access-token": "token-ann"}
    answer = ask(genie[0], "secret rain?", agent="mine", **headers)
    assert answer.status_code == 403, answer.text
    assert answer.json()["code"] == "permission_denied"


def test_without_memory_an_answer_comes_without_preferences_and_says_so(genie: tuple[Server, Emulator]) -> None:
    server, emulator = genie
    emulator.clear()
    emulator.fault(path="/api/2.0/sql/statements.*", times=50, status=503, error_code="TEMPORARILY_UNAVAILABLE")
    answer = ask(server, "pieces by place", agent="liked", **ANN).json()
    emulator.clear()
    assert answer["result"]["answers"][0]["rows"] == [["Rome", 7], ["Oslo", 5]]
    assert any("memory: unavailable" in reason for reason in answer["metadata"]["degraded"]), answer["metadata"]


def test_domains_are_asked_at_once(genie: tuple[Server, Emulator]) -> None:
    """Each is asked before any has begun to answer: together they take as long as the slowest."""
    server, emulator = genie
    emulator.clear()
    emulator.fault(path=".*/start-conversation", times=2, delay_seconds=1.0)
    answer = ask(server, "How many pieces in stock, and how much rain?", **ANN).json()
    assert {one["domain"] for one in answer["result"]["answers"]} == {"warehouse", "weather"}
    steps = [one["path"].rpartition("/")[2] for one in emulator.requests() if "/genie/" in one["path"]]
    assert steps[:2] == ["start-conversation", "start-conversation"]
    results = [place for place, step in enumerate(steps) if step == "query-result"]
    polled = {one["path"].split("/")[5] for one in emulator.requests() if "/messages/" in one["path"]}
    assert polled == {"stock", "weather"}
    assert min(results) > 4  # both were polled before either's rows were read


def test_the_only_domain_that_fails_is_the_answers_error(genie: tuple[Server, Emulator]) -> None:
    server, emulator = genie
    emulator.clear()
    emulator.fault(path=".*/start-conversation", times=20, status=429, error_code="RESOURCE_EXHAUSTED")
    answer = ask(server, "pieces by place", **ANN)
    emulator.clear()
    assert (answer.status_code, answer.json()["code"]) == (429, "rate_limited")


def test_on_behalf_of_the_user_fails_closed(genie: tuple[Server, Emulator]) -> None:
    server, emulator = genie
    emulator.clear()
    answer = ask(server, "rain?", agent="mine", **ANN)
    assert (answer.status_code, answer.json()["code"]) == (401, "unauthenticated")
    assert not [one for one in emulator.requests() if "/genie/" in one["path"]]
    token = {"x-forwarded-access-token": "token-ann"}
    answer = ask(server, "rain?", agent="mine", **ANN, **token)
    assert answer.json()["result"]["answers"][0]["rows"] == [[7]], answer.text
    assert "token-ann" not in answer.text
