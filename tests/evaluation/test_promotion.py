"""Optimize, promote, experiment and roll back, by the commands, on a real server and a scripted model."""

import asyncio
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from typer.testing import CliRunner

from lakemesh.cli.main import app
from lakemesh.evaluation.cases import Case, write_jsonl
from lakemesh.lakehouse.arrow import rows_to_arrow
from lakemesh.lakehouse.embedded import open_workspace
from lakemesh.lakehouse.tables import Column, TableSpec
from tests.models.scripted_server import completion
from tests.models.scripted_thread import says, scripted_model
from tests.server import running_server, write_config

MODELS = """
models:
  endpoints:
    scripted: {{base_url: "{url}", model: scripted}}
    offline: {{serving_endpoint: offline}}
  routes:
    quality: {{endpoints: [scripted], attempts: 1}}
    embeddings: {{endpoints: [offline]}}
"""
AGENTS = "  helper: {class: tool_agent, options: {prompt: helper}}"
CONTENT = "telemetry: {capture_content: true}"
POOR = "Answer {{ message }}."
ACTIONS = {"pin", "add", "promote", "roll_back"}
RIGHT = "Answer {{ message }} in CAPITALS."


def answer(request: dict) -> bytes:
    """Right under the right instructions only. Asked to improve them, it first forgets a variable."""
    system, user = request["messages"][0], request["messages"][-1]["content"]
    if system["role"] == "user":
        forgetful = "lost message" not in user
        return completion(f"```\n{'Answer in CAPITALS.' if forgetful else RIGHT}\n```")
    return says(user.upper() if "CAPITALS" in system["content"] else user)


def hopeless(request: dict) -> bytes:
    """Never right, whatever the instructions."""
    return says("nothing") if request["messages"][0]["role"] == "system" else completion(f"```\n{RIGHT}\n```")


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    monkeypatch.setenv("LAKEMESH_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("LAKEMESH_CONFIG_FOLDER", str(tmp_path / "config"))
    cases = [Case(inputs={"message": f"word {n}"}, expectations={"output": f"WORD {n}"}) for n in range(30)]
    write_jsonl(tmp_path / "cases.jsonl", cases)
    (tmp_path / "suite.yaml").write_text(
        "agent: helper\ndataset: cases.jsonl\nsplits: [holdout]\nscorers: [{type: exact}]\n"
        "gates: [{metric: exact, at_least: 0.9, min_cases: 5}]\n"
    )
    return tmp_path


def config_of(folder: Path, url: str) -> Path:
    config = write_config(folder / "config", AGENTS, CONTENT, models=MODELS.format(url=url))
    (config / "prompts" / "helper_v1.jinja").write_text(f"---\ndescription: Helps.\n---\n{POOR}")
    return config


def command(*arguments: object, code: int = 0) -> str:
    result = CliRunner().invoke(app, [str(one) for one in arguments])
    assert result.exit_code == code, result.output
    return result.output


def test_a_better_prompt_is_found_proved_promoted_and_taken_back(folder: Path) -> None:
    reports = ("--reports", folder / "reports")
    with scripted_model(answer) as model:
        config = config_of(folder, model.base_url)
        command("evaluate", folder / "suite.yaml", *reports, code=1)
        found = command(
            "optimize", folder / "suite.yaml", "--prompt", "helper", "--calls", 60, "--folder", folder / "optimized"
        )  # fmt: skip
        assert "hold-out 0.000 to 1.000" in found
        executions = int(found.partition(" candidates, ")[2].split()[0])
        assert executions <= 60
        written = (config / "prompts" / "helper_v2.jinja").read_text()
        assert written == f"---\ndescription: Helps.\n---\n{RIGHT}"
        assert "serves 1" in command("prompts", "list"), "what was found serves nobody yet"
        assert "+Answer {{ message }} in CAPITALS." in command("prompts", "diff", "helper", 1, 2)
        with running_server(folder / "server", config) as server:
            there = ("--url", server.url, "--wait", 10)

            def ask() -> str:
                sent = {"agent_name": "helper", "data": {"message": "hi"}}
                return httpx.post(f"{server.url}/api/execute", json=sent).json()["result"]["text"].strip()

            assert ask() == "hi"
            assert "in force on 1 replica" in command("prompts", "promote", "helper", 2, "--why", "better", *there)
            assert ask() == "HI"
            command("evaluate", folder / "suite.yaml", *reports)
            assert "helper version 1 serves again" in command("prompts", "rollback", "helper", *there)
            assert ask() == "hi"
        command("prompts", "rollback", "helper", code=1)
        moves = command("sql", "SELECT action FROM main.agents.prompt_moves ORDER BY timestamp")
        assert [word for word in moves.split() if word in ACTIONS] == ["pin", "add", "promote", "roll_back"]


def watching(folder: Path, more: str = "") -> Path:
    """A suite for `lakemesh monitor`."""
    scorers = "scorers: [{type: regex, name: shouts, pattern: '[A-Z]'}]\n"
    (folder / "watch.yaml").write_text(f"agent: helper\ndataset: cases.jsonl\n{scorers}{more}")
    return folder / "watch.yaml"


def orders(folder: Path, worth: list[tuple[str, float]]) -> None:
    """A business metric of sessions, in a table of one's own."""

    async def write() -> None:
        workspace = await open_workspace(folder / "home")
        columns = (Column("session_id", "STRING"), Column("value", "DOUBLE"))
        await workspace.tables.create(TableSpec(name="main.shop.orders", columns=columns))
        rows = [{"session_id": session, "value": value} for session, value in worth]
        await workspace.tables.append("main.shop.orders", rows_to_arrow(columns, rows))
        await workspace.close()

    asyncio.run(write())


def test_a_version_that_fails_the_gate_is_not_promoted(folder: Path) -> None:
    with scripted_model(answer) as model:
        config = config_of(folder, model.base_url)
        (config / "prompts" / "helper_v2.jinja").write_text(RIGHT)
        command("prompts", "promote", "helper", 1)
        (config / "prompts" / "helper_v3.jinja").write_text(POOR)
        assert "failed" in command("prompts", "promote", "helper", 3, "--gate", folder / "suite.yaml", code=1)
        assert "serves 1" in command("prompts", "list")
        command("prompts", "promote", "helper", 2, "--gate", folder / "suite.yaml")
        assert "serves 2" in command("prompts", "list")


def test_a_failing_prompt_is_frozen_to_its_former_version(folder: Path) -> None:
    watching(folder, "freeze: [{prompt: helper, metric: shouts, at_least: 0.9, min_executions: 20}]\n")
    with scripted_model(answer) as model:
        config = config_of(folder, model.base_url)
        (config / "prompts" / "helper_v2.jinja").write_text(RIGHT)
        command("prompts", "promote", "helper", 2)
        (config / "prompts" / "helper_v3.jinja").write_text(POOR)
        command("prompts", "promote", "helper", 3, "--why", "somebody was in a hurry")
        with running_server(folder / "home", config) as server, httpx.Client(base_url=server.url, timeout=60) as client:
            for _ in range(25):
                sent = {"agent_name": "helper", "data": {"message": "hi"}}
                assert client.post("/api/execute", json=sent).json()["result"]["text"].strip() == "hi"
        assert "serves 3" in command("prompts", "list"), command("monitor", folder / "watch.yaml")
        seen = command("monitor", folder / "watch.yaml", "--act")
        assert "prompt helper frozen to version 2: shouts is 0.000 over 25 executions, less than 0.9" in seen
        assert "serves 2" in command("prompts", "list")
        moves = command("sql", "SELECT action, why FROM main.agents.prompt_moves WHERE action = 'freeze'")
        assert "shouts is 0.000" in moves
        assert "frozen" not in command("monitor", folder / "watch.yaml", "--act"), "only what it served since counts"


def test_no_gain_is_said(folder: Path) -> None:
    with scripted_model(hopeless) as model:
        config = config_of(folder, model.base_url)
        found = command(
            "optimize", folder / "suite.yaml", "--prompt", "helper", "--calls", 60, "--folder", folder / "o", code=1
        )
        assert "no gain" in found
        assert not (config / "prompts" / "helper_v2.jinja").exists()


@pytest.mark.parametrize(("challenger_is_good", "serves"), [(True, 2), (False, 1)])
def test_an_experiment_ends_by_itself(folder: Path, challenger_is_good: bool, serves: int) -> None:
    with scripted_model(answer) as model:
        config = config_of(folder, model.base_url)
        (config / "prompts" / "helper_v2.jinja").write_text(RIGHT)
        command("prompts", "promote", "helper", 1)
        command("prompts", "split", "helper", 2, "--share", 0.5)
        assert "1 to 50%, 2 to 50%" in command("prompts", "list")
        with running_server(folder / "home", config) as server, httpx.Client(base_url=server.url, timeout=60) as client:
            arms: dict[int, bool] = {}
            for place in range(60):
                sent = {"agent_name": "helper", "data": {"message": "hi"}, "session_id": f"s{place}"}
                found = client.post("/api/execute", json=sent).json()
                challenged = arms[place] = found["metadata"]["prompts"] == ["helper_v2"]
                value = 1.0 if challenged == challenger_is_good else 0.0
                told = {"execution_id": found["metadata"]["execution_id"], "value": value}
                assert client.post("/api/feedback", json=told).status_code == 204
        orders(folder, [(f"s{place}", 1.0 if arms[place] == challenger_is_good else 0.0) for place in range(60)])
        business = command("prompts", "experiment", "helper", "--outcome", "table:main.shop.orders")
        assert f"challenger: {sum(arms.values())} sessions, mean {float(challenger_is_good):.3f}" in business
        command("monitor", watching(folder))
        scored = command("prompts", "experiment", "helper", "--outcome", "score:shouts")
        assert f"challenger: {sum(arms.values())} sessions, mean 1.000" in scored
        assert f"champion: {60 - sum(arms.values())} sessions, mean 0.000" in scored
        looked = command("prompts", "experiment", "helper", "--min-sessions", 10)
        assert "(--act does it)" in looked, looked
        command("prompts", "experiment", "helper", "--min-sessions", 10, "--act")
        assert f"serves {serves}" in command("prompts", "list")
        command("prompts", "experiment", "helper", code=1)
