"""Every optimizer finds what makes the scripted model right, in an environment that has them all; and none of them is
needed to say what is missing."""

import json
import os
import re
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.environments import environment_with
from tests.evaluation.test_promotion import AGENTS, MODELS, POOR, RIGHT
from tests.evaluation.test_promotion import folder as folder
from tests.judge import judged
from tests.models.scripted_server import completion
from tests.models.scripted_thread import says, scripted_model
from tests.server import write_config

REPOSITORY = Path(__file__).parents[2]
PACKAGES = ("dspy==3.4.1", "optuna", "textgrad==0.1.8")
FIELD = re.compile(r"\[\[ ## (\w+) ## \]\]")
LIBRARIES = ["dspy-bootstrap", "dspy-mipro", "dspy-gepa", "textgrad", "few-shot"]


def answer(request: dict) -> bytes:
    """Right under the right instructions, or with examples; asked for a text, it gives the right instructions in the
    form that the library wants."""
    system, user = request["messages"][0], request["messages"][-1]["content"]
    shouts = "CAPITALS" in system["content"] or "Examples of good answers" in system["content"]
    if "response_format" not in request and request.get("stream"):
        return says(user.upper() if shouts or user.endswith(("0", "3", "6", "9")) else user)
    return completion(proposal(json.dumps(request["messages"]), user))


def proposal(whole: str, asked: str) -> str:
    if "IMPROVED_VARIABLE" in whole:
        return f"<IMPROVED_VARIABLE>{RIGHT}</IMPROVED_VARIABLE>"
    if "JSON object" in whole:
        wanted = [name for name in FIELD.findall(asked) if name != "completed"] or ["improved_instruction"]
        return json.dumps(dict.fromkeys([*wanted, "improved_instruction", "new_instruction"], RIGHT))
    if fields := [name for name in dict.fromkeys(FIELD.findall(asked)) if name != "completed"]:
        return "\n\n".join([f"[[ ## {name} ## ]]\n{RIGHT}" for name in fields] + ["[[ ## completed ## ]]"])
    return f"```\n{RIGHT}\n```"


@pytest.fixture(scope="module")
def python() -> Path:
    return environment_with("evaluation-optimizers", *PACKAGES, "-r", "pyproject.toml", "--extra", "evaluation")


@pytest.fixture
def world(folder: Path) -> Iterator[tuple[Path, Callable]]:
    with scripted_model(answer) as model:
        config = write_config(folder / "config", AGENTS, models=MODELS.format(url=model.base_url))
        (config / "prompts" / "helper_v1.jinja").write_text(POOR)

        def optimize(python: Path, optimizer: str) -> subprocess.CompletedProcess[str]:
            arguments = ["optimize", "suite.yaml", "--prompt", "helper", "--calls", "150", "--optimizer", optimizer]
            environment = os.environ | {"PYTHONPATH": str(REPOSITORY), "DSPY_CACHEDIR": str(folder / "dspy")}
            return subprocess.run(
                [python, "-m", "lakemesh.cli", *arguments], cwd=folder, env=environment, capture_output=True, text=True,
                timeout=300,
            )  # fmt: skip

        yield config, optimize


@judged
@pytest.mark.parametrize("optimizer", LIBRARIES)
def test_it_finds_a_better_prompt(world: tuple[Path, Callable], python: Path, optimizer: str) -> None:
    config, optimize = world
    done = optimize(python, optimizer)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "to 1.000" in done.stdout, done.stdout
    assert int(done.stdout.partition(" candidates, ")[2].split()[0]) <= 150
    written = (config / "prompts" / "helper_v2.jinja").read_text()
    assert "{{ message }}" in written
    assert "CAPITALS" in written or "Examples of good answers" in written


def test_what_is_not_installed_is_said_and_what_is_not_known(world: tuple[Path, Callable], folder: Path) -> None:
    suite = folder / "suite.yaml"
    assert "is no optimizer" in refused("optimize", suite, "--prompt", "helper", "--optimizer", "magic")
    assert "needs textgrad" in refused(
        "optimize", suite, "--prompt", "helper", "--calls", 150, "--optimizer", "textgrad", "--folder", folder / "o"
    )


def refused(*arguments: object) -> str:
    from typer.testing import CliRunner

    from lakemesh.cli.main import app

    result = CliRunner().invoke(app, [str(one) for one in arguments])
    assert result.exit_code == 1
    return str(getattr(result.exception, "detail", ""))
