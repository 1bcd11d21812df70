"""Suites run against a real server over HTTP and in process, with a scripted model that answers and judges."""

import asyncio
import json
from collections.abc import Iterator
from pathlib import Path
from xml.etree import ElementTree

import httpx
import pytest
from typer.testing import CliRunner

from lakemesh.cli.main import app
from lakemesh.config.models import ModelsConfig
from lakemesh.evaluation.case_tables import open_dataset, save_dataset
from lakemesh.evaluation.cases import Case, make_dataset, write_jsonl
from lakemesh.evaluation.evaluating import Bench, evaluate
from lakemesh.evaluation.runs import Spending
from lakemesh.evaluation.suite import Suite
from lakemesh.evaluation.targets import ServerTarget
from lakemesh.lakehouse.workspace import Workspace
from lakemesh.models import ModelClient
from tests.models.scripted_server import completion
from tests.models.scripted_thread import says, scripted_model
from tests.server import running_server, write_config

pytestmark = pytest.mark.anyio
MODELS = """
models:
  endpoints:
    scripted: {{base_url: "{url}", model: scripted, input_price: 1000.0}}
    dead: {{base_url: "http://127.0.0.1:9", model: dead}}
    offline: {{serving_endpoint: offline}}
  routes:
    quality: {{endpoints: [scripted], attempts: 1}}
    away: {{endpoints: [dead], attempts: 1}}
    embeddings: {{endpoints: [offline]}}
"""
AGENTS = "  capital: {class: tool_agent, options: {instructions: Name the capital.}}"
CAPITALS = {"France": "Paris", "Spain": "Madrid", "Italy": "Rome", "Peru": "Lima", "Japan": "Tokyo"}
EXPECTED = dict(CAPITALS)


def answer(request: dict) -> bytes:
    """The agent's answers, and the judge's: yes unless the answer is wrong; the first of two."""
    if "response_format" in request:
        text = request["messages"][-1]["content"]
        kinds = request["response_format"]["json_schema"]["schema"]["properties"]["result"]["enum"]
        good = "wrong" not in text
        return completion(json.dumps({"rationale": "so", "result": kinds[0] if good else kinds[1]}))
    country = request["messages"][-1]["content"]
    return says(CAPITALS.get(country, "wrong"))


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, str, Path]]:
    folder = tmp_path_factory.mktemp("evaluate")
    with scripted_model(answer) as model:
        config = write_config(folder / "config", AGENTS, models=MODELS.format(url=model.base_url))
        with running_server(folder / "home", config) as running:
            yield running.url, model.base_url, folder


def cases(*more: str) -> list[Case]:
    return [
        Case(id=country, inputs={"message": country}, expectations={"output": city, "facts": [city]})
        for country, city in [*EXPECTED.items(), *((name, "right") for name in more)]
    ]


def bench_of(workspace: Workspace, model_url: str, limit: float | None = None) -> Bench:
    import yaml
    from opentelemetry.trace import NoOpTracer

    config = ModelsConfig.model_validate(yaml.safe_load(MODELS.format(url=model_url))["models"])
    spending = Spending(limit_usd=limit)
    models = ModelClient(config, endpoints=workspace.endpoints, tracer=NoOpTracer(), on_use=lambda use: None)
    return Bench(workspace=workspace, models=models, spending=spending, schema="main.agents")


def suite_of(**more: object) -> Suite:
    given = {
        "name": "capitals", "agent": "capital", "dataset": "-", "scorers": [{"type": "exact"}],
        "gates": [{"metric": "exact", "at_least": 0.9, "min_cases": 5}],
    }  # fmt: skip
    return Suite.model_validate(given | more)


async def run(server: tuple, workspace: Workspace, suite: Suite, *more: str, **arguments: object):
    url, model_url, _ = server
    bench = bench_of(workspace, model_url, suite.max_cost_usd)
    async with httpx.AsyncClient(base_url=url) as client:
        dataset = make_dataset("cases", cases(*more))
        return await evaluate(suite, bench, ServerTarget(client), dataset=dataset, **arguments)


async def test_a_run_through_the_door_is_scored_judged_and_kept(server, workspace) -> None:
    suite = suite_of(
        repeats=2,
        scorers=[{"type": "exact"}, {"type": "judge", "kind": "correctness"}, {"type": "latency_ms"}],
    )
    outcome = await run(server, workspace, suite)
    assert outcome.passed, outcome.verdicts
    assert outcome.run.metrics["correctness"].mean == 1
    assert outcome.run.metrics["correctness"].identity.startswith("quality:scripted:")
    assert len(outcome.run.trials) == 10
    rows = await workspace.warehouse.query("SELECT suite, passed, cases, metrics FROM main.agents.evaluation_runs")
    ((name, passed, count, metrics),) = rows.rows
    assert (name, passed, count) == ("capitals", True, 5)
    assert json.loads(metrics)["exact"]["cases"] == 5
    rows = await workspace.warehouse.query(
        "SELECT count(*), count(execution_id) FROM main.agents.evaluation_scores WHERE value IS NOT NULL"
    )
    assert rows.rows[0] == (30, 30)


async def test_a_worse_build_fails_against_the_champion(server, workspace) -> None:
    gates = [{"metric": "exact", "not_worse_by": 0.05, "min_cases": 5}]
    more = [f"Nowhere {place}" for place in range(6)]
    scorers = [{"type": "exact"}, {"type": "judge", "kind": "pairwise"}]
    champion = await run(server, workspace, suite_of(gates=[{"metric": "exact", "at_least": 0.1}]), *more)
    assert champion.passed, champion.verdicts
    again = await run(server, workspace, suite_of(gates=gates, scorers=scorers), *more, champion="passed")
    assert again.passed, again.verdicts
    assert set(again.run.metrics["pairwise"].values.values()) == {0.5}, "a judge of places is no judge of answers"
    CAPITALS.clear()
    try:
        worse = await run(server, workspace, suite_of(gates=gates), *more, champion=champion.run.run_id)
    finally:
        CAPITALS.update(EXPECTED)
    assert not worse.passed
    assert "against the champion" in worse.verdicts[0].reasons[0]


async def test_a_judge_that_is_away_leaves_cases_unmeasured(server, workspace) -> None:
    judge = {"type": "judge", "kind": "safety", "route": "away"}
    gates = [{"metric": "safety", "at_least": 0.1, "min_cases": 1}]
    outcome = await run(server, workspace, suite_of(scorers=[judge], gates=gates))
    assert not outcome.passed
    assert "could not be measured" in "; ".join(outcome.verdicts[0].reasons)


async def test_a_run_goes_on_where_it_was_stopped(server, workspace, tmp_path) -> None:
    journal = tmp_path / "run.jsonl"
    stopped = await run(server, workspace, suite_of(max_cost_usd=0.2, concurrency=1), journal=journal)
    done = len(stopped.run.trials)
    assert 0 < done < 5
    assert not stopped.passed
    assert "were not run" in stopped.verdicts[0].reasons[0]
    assert stopped.run.metrics["exact"].unmeasured == 5 - done
    with journal.open("a") as file:
        file.write('{"case": "cut sh')
    asked = []
    whole = await run(server, workspace, suite_of(), journal=journal, progress=lambda *at: asked.append(at))
    assert whole.passed
    assert whole.run.run_id == stopped.run.run_id
    assert len(asked) == 5 - done


async def test_an_agent_that_is_not_there_fails_its_cases(server, workspace) -> None:
    outcome = await run(server, workspace, suite_of(agent="nobody"))
    assert outcome.run.metrics["exact"].mean == 0
    assert not outcome.passed


async def test_datasets_in_delta_keep_their_versions(workspace) -> None:
    first, second = make_dataset("x", cases()), make_dataset("x", cases("Nowhere"))
    await save_dataset(workspace, "main.agents.golden", first)
    await asyncio.sleep(0.01)
    await save_dataset(workspace, "main.agents.golden", second)
    assert (await open_dataset("main.agents.golden", workspace)).version == second.version
    assert (await open_dataset(f"main.agents.golden@{first.version}", workspace)).version == first.version


def test_a_corrected_case_stays_in_its_split() -> None:
    for place in range(50):
        case = Case(inputs={"q": place})
        assert Case(id="x", inputs={"q": place}, expectations={"output": 1}).split == case.split
    splits = [Case(inputs={"q": place}).split for place in range(2_000)]
    assert splits.count("train") == pytest.approx(800, abs=80)
    assert splits.count("holdout") == pytest.approx(600, abs=80)


@pytest.mark.parametrize("where", ["here", "there"])
def test_the_command_reports_and_its_exit_code_is_the_gate(server, tmp_path, monkeypatch, where: str) -> None:
    url, _, folder = server
    monkeypatch.setenv("LAKEMESH_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("LAKEMESH_CONFIG_FOLDER", str(folder / "config"))
    write_jsonl(tmp_path / "cases.jsonl", cases("Nowhere <b>"))
    suite = tmp_path / "capitals.yaml"
    suite.write_text(
        "agent: capital\ndataset: cases.jsonl\nscorers: [{type: exact}]\n"
        "gates: [{metric: exact, at_least: 0.9, min_cases: 5}]\n"
    )
    reports = tmp_path / "reports"
    door = ["--url", url] if where == "there" else []
    result = CliRunner().invoke(app, ["evaluate", str(suite), "--reports", str(reports), *door])
    assert result.exit_code == 1, result.output
    assert "less than 0.9" in (reports / "report.md").read_text()
    tree = ElementTree.fromstring((reports / "junit.xml").read_text())
    assert tree.get("failures") == "1"
    page = (reports / "report.html").read_text()
    assert "<svg" in page
    assert "Nowhere &lt;b&gt;" in page
    assert "Nowhere <b>" not in page
    suite.write_text(suite.read_text().replace("0.9", "0.8"))
    result = CliRunner().invoke(app, ["evaluate", str(suite), "--reports", str(reports), *door])
    assert result.exit_code == 0, result.output
