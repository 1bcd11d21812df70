"""MLflow evaluates an agent behind our door, and reads the runs and the risk model that we log."""

import json
import os
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from lakemesh.agents.fraud.features import FEATURES, compute_features
from lakemesh.evaluation.cases import Case, write_jsonl
from lakemesh.jobs import risk_training
from lakemesh.jobs.card_transactions import Method, generate
from lakemesh.jobs.train_risk import split_before, train
from tests.environments import environment_with
from tests.evaluation.test_evaluate import AGENTS, CAPITALS, MODELS, answer
from tests.judge import judged
from tests.models.scripted_server import completion
from tests.models.scripted_thread import scripted_model
from tests.server import running_server, write_config

pytestmark = judged

REPOSITORY = Path(__file__).parents[2]
PACKAGE = "mlflow==3.17.2"
SUITE = """
agent: capital
dataset: cases.jsonl
repeats: 2
scorers:
  - {type: exact}
  - {type: custom, name: capitalised, function: "mlflow.genai.scorers:RegexMatch", arguments: {pattern: "Paris|Rome"},
     field: text}
  - {type: custom, name: away, function: "tests.evaluation.test_mlflow:fails"}
gates: [{metric: exact, at_least: 0.5, min_cases: 3}]
"""


def fails(**given: object) -> float:
    raise RuntimeError("nobody there")


def judge(request: dict) -> bytes:
    """MLflow's judge, or our agent's model."""
    if "response_format" in request and "scripted" not in request["model"]:
        good = "nowhere" not in json.dumps(request["messages"])
        return completion(json.dumps({"rationale": "so", "result": "yes" if good else "no"}))
    return answer(request)


@pytest.fixture(scope="module")
def python() -> Path:
    """An interpreter that has MLflow beside what lakemesh needs; its pins differ from ours."""
    extras = [word for extra in ("evaluation", "train", "local-database") for word in ("--extra", extra)]
    return environment_with("evaluation-mlflow-3.17.2", PACKAGE, "-r", "pyproject.toml", *extras)


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory, python: Path) -> Iterator[tuple[str, Path, Callable]]:
    folder = tmp_path_factory.mktemp("mlflow")
    with scripted_model(judge) as model:
        environment = os.environ | {
            "MLFLOW_TRACKING_URI": f"sqlite:///{folder}/mlflow.db",
            "MLFLOW_DISABLE_TELEMETRY": "true",
            "DO_NOT_TRACK": "true",
            "LITELLM_LOCAL_MODEL_COST_MAP": "True",
            "OPENAI_API_KEY": "x",
            "OPENAI_API_BASE": model.base_url,
            "PYTHONPATH": str(REPOSITORY),
            "LAKEMESH_HOME": str(folder / "home"),
            "LAKEMESH_CONFIG_FOLDER": str(folder / "config"),
        }

        def run(*arguments: object) -> str:
            command = [python, *map(str, arguments)]
            done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, timeout=400)
            assert done.returncode == 0, done.stdout + done.stderr
            return done.stdout

        config = write_config(folder / "config", AGENTS, models=MODELS.format(url=model.base_url))
        with running_server(folder / "server", config) as server:
            yield server.url, folder, run


def client(run: Callable, *arguments: object) -> dict:
    return json.loads(run(Path(__file__).with_name("mlflow_client.py"), *arguments).splitlines()[-1])


def test_mlflow_evaluates_an_agent_behind_our_door(world: tuple[str, Path, Callable]) -> None:
    url, _, run = world
    metrics = client(run, "evaluate", url)
    assert metrics["right/mean"] == pytest.approx(2 / 3)
    assert metrics["correctness/mean"] == pytest.approx(2 / 3)
    assert metrics["regex_match/mean"] == pytest.approx(2 / 3)
    assert metrics["response_length/mean"] == 1


def test_our_runs_are_read_back_by_mlflow(world: tuple[str, Path, Callable]) -> None:
    url, folder, run = world
    cases = [Case(inputs={"message": one}, expectations={"output": city}) for one, city in CAPITALS.items()]
    write_jsonl(folder / "cases.jsonl", [*cases, Case(inputs={"message": "Atlantis"}, expectations={"output": "sea"})])
    (folder / "suite.yaml").write_text(SUITE)
    said = run("-m", "lakemesh.cli", "evaluate", "suite.yaml", "--url", url, "--mlflow")
    run_id = said.split("Run ")[1].split()[0]
    found = client(run, "read", run_id)
    assert found["metrics"]["exact/mean"] == pytest.approx(5 / 6)
    assert found["metrics"]["capitalised/mean"] == pytest.approx(2 / 6), "MLflow's scorer ran as it is"
    assert "away/mean" not in found["metrics"]
    assert found["metrics"]["away/unmeasured"] == 6
    assert found["tags"]["lakemesh.passed"] == "True"
    assert found["params"]["agent"] == "capital"
    assert len(found["traces"]) == 12
    by_country = {trace["inputs"]["message"]: trace for trace in found["traces"]}
    assert by_country["France"]["scores"]["exact"] == 1
    assert by_country["Atlantis"]["scores"]["exact"] == 0
    assert by_country["Peru"]["faults"] == ["away"]


def test_the_registered_risk_model_scores_as_the_file_does(world: tuple[str, Path, Callable], monkeypatch) -> None:
    _, folder, run = world
    monkeypatch.setattr(risk_training, "TREES", 8)
    data = generate(days=85, seed=11, method=Method(customers=200, terminals=400))
    model = train(data, split_before(int(data.time.max())), 7, kinds=["ensemble"])
    (folder / "model.json").write_text(model.model_dump_json(exclude_none=True))
    rows = compute_features(data)[-200:]
    frame = {name: rows[:, place].tolist() for place, name in enumerate(FEATURES)}
    (folder / "rows.json").write_text(json.dumps(frame))
    register = (
        "from pathlib import Path; from lakemesh.agents.fraud.risk_model import RiskModel;"
        "from lakemesh.jobs.risk_registry import register_model;"
        "model = RiskModel.model_validate_json(Path('model.json').read_text());"
        "print(register_model(model, 'risk'))"
    )
    assert run("-c", register).split()[-1] == "1"
    served = [float.fromhex(one) for one in client(run, "predict", "risk", folder / "rows.json")]
    assert served == pytest.approx(model.scores(rows).tolist(), rel=1e-12), "as near as two releases of numpy are"
