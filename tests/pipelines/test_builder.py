"""`pipeline_builder` on a real server."""

import json
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from lakemesh.pipelines.definition import read_definition, to_plain, write_definition
from lakemesh.pipelines.repository import LocalRepository
from lakemesh.pipelines.requests import definition_of
from tests.models.scripted_server import ScriptedServer, completion
from tests.models.scripted_thread import scripted_model
from tests.pipelines.sales import SALES, sales
from tests.pipelines.spark_stand_in import environment
from tests.pipelines.test_versions import repository
from tests.server import running_server, write_config

MODELS = """
models:
  endpoints:
    scripted: {{base_url: "{url}", model: scripted, timeout_seconds: 20}}
    offline: {{serving_endpoint: offline}}
  routes:
    quality: {{endpoints: [scripted], attempts: 1}}
    embeddings: {{endpoints: [offline]}}
"""
REQUEST = "orders from CSV files every hour, drop rows without id, daily revenue by country"


@pytest.fixture(scope="module")
def url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    folder = tmp_path_factory.mktemp("builder")
    config = write_config(folder / "config", "  builder: {class: pipeline_builder}\n")
    with running_server(folder / "home", config) as server:
        yield server.url


def ask(url: str, accept: str = "application/json", **data: object) -> httpx.Response:
    body = {"agent": "builder", "data": data}
    return httpx.post(f"{url}/api/execute", json=body, headers={"accept": accept}, timeout=60)


def test_a_request_becomes_files_and_nothing_was_run(url: str) -> None:
    answer = ask(url, request=REQUEST).json()
    result = answer["result"]
    assert {"transformations/bronze.py", "transformations/gold.py", "README.md"} <= set(result["files"])
    assert "orders have a column amount of type DECIMAL(18,2)." in result["assumptions"]
    assert result["proof"] is None
    assert "not run" in answer["metadata"]["degraded"][0]


def test_steps_and_files_are_events(url: str) -> None:
    text = ask(url, accept="text/event-stream", request=REQUEST).text
    names = [line.removeprefix("event: ") for line in text.splitlines() if line.startswith("event: ")]
    assert names[-1] == "completed"
    assert "progress" in names
    assert names.count("artifact") == 12


def test_a_change_that_loses_data_needs_an_approval(url: str) -> None:
    smaller = sales(datasets=SALES["datasets"][:-1])
    data = {"definition": write_definition(smaller), "before": write_definition(sales())}
    refused = ask(url, **data)
    assert refused.status_code == 409
    assert refused.json()["code"] == "input_required"
    grown = ask(url, definition=write_definition(sales()), before=write_definition(smaller))
    assert grown.json()["result"]["changes"] == [
        {"what": "daily_revenue is added (materialized view).", "destructive": False}
    ]


@pytest.mark.parametrize(
    ("data", "status"),
    [
        ({"request": "make me a sandwich"}, 400),
        ({"definition": "name: 1"}, 422),
        ({"definition": "name: a"}, 422),
        ({}, 422),
        ({"request": "a", "definition": "b"}, 422),
    ],
)
def test_what_cannot_be_built_is_refused(url: str, data: dict[str, str], status: int) -> None:
    assert ask(url, **data).status_code == status


def answer_with(definition: object) -> bytes:
    return completion(json.dumps(definition))


@pytest.fixture(scope="module")
def scripted() -> Iterator[ScriptedServer]:
    with scripted_model(completion("unscripted")) as model:
        yield model


@pytest.fixture(scope="module")
def complete(tmp_path_factory: pytest.TempPathFactory, scripted: ScriptedServer) -> Iterator[tuple[str, Path]]:
    """A server whose builder has a model, a repository and pipelines, Spark stood in for."""
    folder = tmp_path_factory.mktemp("complete")
    repository(folder / "repo")
    agents = f"""  builder:
    class: pipeline_builder
    options:
      route: quality
      repository: {folder / "repo"}
      reach: {{catalogs: [main], volumes: [/Volumes/main]}}
"""
    config = write_config(folder / "config", agents, models=MODELS.format(url=scripted.base_url))
    with running_server(folder / "home", config, spark=environment(folder / "spark")) as server:
        yield server.url, folder


def test_a_model_writes_what_the_grammar_does_not_understand_and_mends_its_faults(
    complete: tuple[str, Path], scripted: ScriptedServer
) -> None:
    good = to_plain(definition_of("orders from CSV files, daily revenue by country"))
    wrong = json.loads(json.dumps(good))
    wrong["datasets"][1]["input"] = "bronze_oders"
    scripted.script, scripted.requests = [answer_with(wrong), answer_with(good)], []
    answer = ask(complete[0], request="please look into what our shop sells in which land").json()
    assert answer["result"]["name"] == good["name"]
    told = scripted.requests[1]["messages"][-1]["content"]
    assert "did you mean 'bronze_orders'" in told
    assert "please look into" in read_definition(answer["result"]["definition"]).description


def test_what_no_pipeline_does_is_not_asked_of_a_model(complete: tuple[str, Path], scripted: ScriptedServer) -> None:
    scripted.script, scripted.requests = [completion("never")], []
    assert ask(complete[0], request="please delete what our shop sold").status_code == 400
    assert scripted.requests == []


def test_what_a_model_writes_stays_within_reach(complete: tuple[str, Path], scripted: ScriptedServer) -> None:
    theirs = to_plain(definition_of("accounts from table hr.people.accounts, number of accounts by team"))
    scripted.script, scripted.requests = [answer_with(theirs)], []
    refused = ask(complete[0], request="please count our people")
    assert refused.status_code == 403
    assert "'hr'" in refused.json()["detail"]


def test_a_version_and_a_deployment_are_part_of_the_answer(complete: tuple[str, Path]) -> None:
    url, folder = complete
    answer = ask(url, request=REQUEST, version=True, deploy=True)
    assert answer.status_code == 200, answer.text
    result, execution = answer.json()["result"], answer.json()["metadata"]["execution_id"]
    source = LocalRepository(folder / "repo")
    assert result["version"]["branch"] == f"agent/orders_pipeline/{execution}"
    assert f"Lakemesh-Run: {execution}" in source.message_of(result["version"]["branch"])
    assert result["deployment"]["state"] == "completed"
    assert [found["name"] for found in result["deployment"]["expectations"]] == ["id_present"]


def test_a_change_in_english_names_what_it_changes(complete: tuple[str, Path]) -> None:
    before = write_definition(definition_of("orders from CSV files, daily revenue by country"))
    result = ask(complete[0], request="add weekly revenue by country", before=before).json()["result"]
    assert [change["what"] for change in result["changes"]] == [
        "weekly_revenue_by_country is added (materialized view)."
    ]


def test_a_failed_deployment_is_mended_by_the_model(complete: tuple[str, Path], scripted: ScriptedServer) -> None:
    """The stand-in fails what reads `nowhere`, as Spark does what reads a table that is not there."""
    broken = definition_of("clicks from table main.raw.nowhere, number of clicks by page")
    mended = definition_of("clicks from table main.raw.clicks, number of clicks by page")
    scripted.script, scripted.requests = [answer_with(to_plain(mended))], []
    answer = ask(complete[0], definition=write_definition(broken), deploy=True)
    assert answer.status_code == 200, answer.text
    result = answer.json()["result"]
    assert result["deployment"]["state"] == "completed"
    assert "main.raw.clicks" in result["files"]["transformations/bronze.py"]
    assert "TABLE_OR_VIEW_NOT_FOUND" in scripted.requests[0]["messages"][-1]["content"]
