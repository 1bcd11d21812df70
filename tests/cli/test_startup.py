"""A server that cannot start, and a configuration that it would refuse, are told in one sentence each."""

import os
import socket
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests import commands
from tests.server import MODELS
from tests.terminal import typed

ECHO = "agents: {echo: {class: 'lakemesh.agents.echo:EchoAgent'}}\n"


@pytest.fixture
def home(tmp_path: Path) -> Path:
    folder = tmp_path / "config"
    (folder / "prompts").mkdir(parents=True)
    (folder / "lakemesh.yaml").write_text(ECHO)
    return tmp_path


@pytest.fixture
def taken_port() -> Iterator[int]:
    with socket.create_server(("127.0.0.1", 0)) as other:
        yield other.getsockname()[1]


def run(cwd: Path, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    inherited = {name: value for name, value in os.environ.items() if not name.startswith(("LAKEMESH", "DATABRICKS"))}
    return commands.run(*arguments, cwd=cwd, environment={**inherited, **environment})


def refused(answer: subprocess.CompletedProcess[str], said: str, code: int = 1) -> None:
    assert answer.returncode == code, answer.stderr
    assert said in answer.stderr
    assert "Traceback" not in answer.stderr
    assert "lakemesh at http" not in answer.stderr


def test_an_empty_folder(tmp_path: Path) -> None:
    for command in (["serve", "--port", "0"], ["dev", "--no-browser"], ["execute", "echo"], ["traces"]):
        refused(run(tmp_path, *command), "There is no file config/lakemesh.yaml; 'lakemesh init")


def test_a_port_in_use(home: Path, taken_port: int) -> None:
    refused(run(home, "serve", "--port", str(taken_port)), "choose another with --host and --port")


def test_a_port_that_is_none(home: Path) -> None:
    refused(run(home, "serve", "--port", "99999"), "65535", code=2)


@pytest.mark.parametrize(
    ("name", "value"),
    [("LAKEMESH_PORT", "abc"), ("LAKEMESH_WORKSPACE", "aws"), ("LAKEMESH_LOG_LEVEL", "verbose"),
     ("LAKEMESH_DRAIN_SECONDS", "-1"), ("LAKEMESH_ENVIRONMENT", "../x")],
)  # fmt: skip
def test_a_setting_that_is_wrong(home: Path, name: str, value: str) -> None:
    refused(run(home, "serve", "--port", "0", **{name: value}), f"{name}:")


@pytest.mark.parametrize("command", [("serve", "--port", "0"), ("config", "check")])
@pytest.mark.parametrize(("name", "value"), [("LAKEMESH_ENVIRONMENT", "prd"), ("LAKEMESH_CONFIG_FOLDER", "elsewhere")])
def test_files_that_are_not_there(home: Path, command: tuple[str, ...], name: str, value: str) -> None:
    refused(run(home, *command, **{name: value}), "here is no")


def test_a_workspace_without_credentials(home: Path) -> None:
    answer = run(home, "serve", "--port", "0", LAKEMESH_WORKSPACE="databricks")
    assert (answer.returncode, "Traceback" in answer.stderr) == (1, False), answer.stderr


def test_a_home_that_cannot_be_made(home: Path) -> None:
    (home / "file").write_text("not a folder")
    refused(run(home, "serve", "--port", "0", LAKEMESH_HOME=str(home / "file")), str(home / "file"))


def test_beyond_loopback_somebody_must_authenticate(home: Path) -> None:
    answer = run(home, "serve", "--port", "0", "--host", "0.0.0.0")
    refused(answer, "LAKEMESH_ALLOW_UNAUTHENTICATED=true")


KEYS = """
agnets: {}
agents: {a: {class: 'lakemesh.agents.echo:EchoAgent', optoins: {}}}
limits: {rate: {per_user_per_minut: 3}}
"""
KEY_FAULTS = ["(did you mean 'agents'?)", "(did you mean 'options'?)", "(did you mean 'per_user_per_minute'?)"]
NAMES = f"""
agents:
  misspelt: {{class: 'lakemesh.agents.echo:EchoAgnt'}}
  missing: {{class: 'nowhere:Nothing'}}
  no_agent: {{class: 'lakemesh.schemas:Identity'}}
  exits: {{class: 'exits:Agent'}}
  broken: {{class: 'broken:Agent'}}
  option: {{class: 'lakemesh.agents.echo:EchoAgent', options: {{wrong: 1}}}}
  prompt: {{class: tool_agent, options: {{prompt: gret}}}}
  route: {{class: tool_agent, options: {{prompt: greet, route: qualty}}}}
{MODELS}
"""
NAME_FAULTS = [
    "(did you mean 'EchoAgent'?)", "agents.missing.class", "not a subclass", "ends the program", "line 1",
    "agents.option.options.wrong", "agents.prompt.options", "agents.route.options",
]  # fmt: skip
SELECTIONS = ECHO + "prompts: {selections: {gret: {version: 1}, greet: {version: 3}}}"
SELECTION_FAULTS = ["(did you mean 'greet'?)", "there is no version 3; there are 1"]


@pytest.mark.parametrize(
    ("text", "said"), [(KEYS, KEY_FAULTS), (NAMES, NAME_FAULTS), (SELECTIONS, SELECTION_FAULTS)], ids=range(3)
)
def test_the_check_and_the_server_find_the_same_faults(home: Path, text: str, said: list[str]) -> None:
    (home / "exits.py").write_text("import sys\nsys.exit(3)\n")
    (home / "broken.py").write_text("class Agent(:\n")
    (home / "config" / "prompts" / "greet_v1.txt").write_text("hello")
    (home / "config" / "lakemesh.yaml").write_text(text)
    for answer in (run(home, "config", "check"), run(home, "serve", "--port", "0")):
        for fault in said:
            refused(answer, fault)


def test_a_broken_prompt_is_a_fault_of_the_check(home: Path) -> None:
    (home / "config" / "prompts" / "greet_v1.jinja").write_text("now {{ broken")
    refused(run(home, "config", "check"), "prompts/greet_v1.jinja")


def test_a_check_from_elsewhere_finds_what_it_is_told(home: Path, tmp_path_factory: pytest.TempPathFactory) -> None:
    elsewhere = tmp_path_factory.mktemp("elsewhere")
    (home / "config" / "lakemesh.prod.yaml").write_text("limits: {max_queue: 9}")
    answer = run(elsewhere, "config", "check", "-e", "prod", LAKEMESH_CONFIG_FOLDER=str(home / "config"))
    assert (answer.returncode, "lakemesh.yaml, lakemesh.prod.yaml: 1 agent, no faults" in answer.stdout) == (0, True)
    assert "telemetry.*" in answer.stdout


def test_an_environment_that_is_mistyped(home: Path) -> None:
    (home / "config" / "lakemesh.prod.yaml").touch()
    refused(run(home, "config", "check", "-e", "prd"), "(did you mean 'prod'?)")


def test_a_terminal_is_told_once(home: Path) -> None:
    """Not in the log's words and then again."""
    (home / "config" / "lakemesh.yaml").unlink()
    said = typed(home, ["serve", "--port", "0"], [], code=1)
    assert said.count("There is no file config/lakemesh.yaml") == 1
    assert "startup" not in said
