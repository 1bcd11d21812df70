"""`pipeline_builder` on a real server."""

from collections.abc import Iterator

import httpx
import pytest

from lakemesh.pipelines.definition import write_definition
from tests.pipelines.sales import SALES, sales
from tests.server import running_server, write_config

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
    assert names.count("artifact") == 7


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
