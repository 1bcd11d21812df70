"""Every sample of the documentation: commands exist with these options, Python runs, YAML is configuration, and the
commands of the tutorial and the examples do what they say."""

import ast
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click
import pytest
import typer

from lakemesh.cli.main import app
from lakemesh.client import ServerError
from lakemesh.config.loader import ConfigFile, parse_config, secret_names
from lakemesh.config.schema import Config
from lakemesh.testing import ChatRequest, RunningServer, ScriptedModel, serve
from tests.docs.blocks import ROOT, SHELL, Block, blocks_of, every
from tests.docs.shell import WRITTEN, Reader
from tests.judge import judged

TUTORIAL = ROOT / "docs/tutorial.md"
SAMPLES = "tests.docs.sample_agents"
BASE = """
agents: {echo: {class: echo}}
models:
  endpoints: {sample: {serving_endpoint: sample}}
  routes: {quality: {endpoints: [sample]}, fast: {endpoints: [sample]}, long_context: {endpoints: [sample]}}
"""


def lakemesh_commands(block: Block) -> Iterator[list[str]]:
    """The words of each `lakemesh ...` in the block, without where its output goes."""
    for line in block.commands:
        command: list[str] = []
        for word in [*shlex.split(line, comments=True), ";"]:
            if word not in ("&&", "&", ">", "2>", "|", ";"):
                command.append(word)
                continue
            if command[:1] == ["lakemesh"]:
                yield command[1:]
            command = []


@pytest.mark.parametrize("block", every(*SHELL), ids=str)
def test_commands_exist_with_these_options(block: Block) -> None:
    for words in lakemesh_commands(block):
        command: Any = typer.main.get_command(app)
        context = click.Context(command, info_name="lakemesh")
        arguments = list(words)
        while arguments and arguments[0] in getattr(command, "commands", {}):
            command = command.commands[arguments.pop(0)]
            context = type(context)(command, parent=context)
        assert not getattr(command, "commands", None), f"there is no command {' '.join(words)!r}"
        command.parse_args(context, arguments)


@pytest.mark.parametrize("block", every("yaml"), ids=str)
def test_yaml_is_configuration(block: Block) -> None:
    if block.page.name == "evaluation.md" or block.text.startswith("tests:"):
        return  # a suite, or tests of policies: no configuration, and tests/evaluation and tests/governance read those
    wrapped = wrapped_in(block.text)
    variables = dict.fromkeys(("BILLING_TOKEN", "TICKETS_TOKEN", "MODELS_KEY", "ZEROBUS_URL"), "value")
    variables |= {name: name for name in secret_names([ConfigFile("sample", wrapped.encode())])}
    parse_config([ConfigFile("base", BASE.encode()), ConfigFile("sample", wrapped.encode())], variables)


def wrapped_in(text: str) -> str:
    """Where a page shows a part of a section, the section round it."""
    first = text.partition(":")[0].strip()
    if first in Config.model_fields:
        return text
    indented = "\n".join(f"    {line}" for line in text.splitlines())
    part = "endpoints" if "serving_endpoint" in text or "base_url" in text else "routes"
    known = "" if part == "endpoints" else "  endpoints: {claude: {serving_endpoint: claude}}\n"
    return f"models:\n{known}  {part}:\n{indented}"


def answer(request: ChatRequest) -> Any:
    if request.body.get("response_format"):
        return {"answer": "yes", "sure": True}
    return "hello"


@pytest.fixture(scope="module")
def server() -> Iterator[RunningServer]:
    agents = {
        "echo": "echo",
        "fragment": f"{SAMPLES}:FragmentAgent",
        "add_days": {"function": f"{SAMPLES}:add_days"},
        "query_tables": {"class": "query", "options": {"schemas": ["main.sales"]}},
    }
    shared = {"memory": {"shared_agents": ["fragment"]}}
    with serve(agents, model=ScriptedModel(answer), config=shared) as running:
        yield running


ELSEWHERE = {
    "langgraph": "tests/interop/test_langgraph.py runs it where LangGraph is",
    "Telemetry(config": "tests/telemetry runs it with parts of its own",
    "require_approval": "tests/governance/test_approvals.py runs it in a durable run",
}


@pytest.mark.parametrize("block", [one for one in every("python") if not one.title], ids=str)
def test_python_runs(block: Block, server: RunningServer, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    program = block.text.replace(WRITTEN, server.url).replace("mypackage.dates", SAMPLES)
    tree = compile(program, str(block), "exec", flags=ast.PyCF_ALLOW_TOP_LEVEL_AWAIT | ast.PyCF_ONLY_AST)
    if any(word in program for word in ELSEWHERE):
        return
    if any(isinstance(node, ast.Name) and node.id in ("context", "self") for node in top_level(tree)):
        server.execute("fragment", {"code": program})
        return
    monkeypatch.setenv("LAKEMESH_RECORD", "1")
    names: dict[str, Any] = {"__name__": "sample"}
    exec(compile(program, str(block), "exec"), names)
    for name, test in names.items():
        if name.startswith("test_"):
            test(*([tmp_path] if "tmp_path" in test.__code__.co_varnames[: test.__code__.co_argcount] else []))


def top_level(tree: ast.AST) -> Iterator[ast.AST]:
    """Every node that is not inside a function or a class."""
    for node in ast.iter_child_nodes(tree):
        if not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            yield node
            yield from top_level(node)


def test_a_fragment_that_fails_is_seen(server: RunningServer) -> None:
    with pytest.raises(ServerError):
        server.execute("fragment", {"code": "await context.call('nobody', {})"})


@judged
def test_the_tutorial_is_followed_from_its_first_line_to_its_last(tmp_path: Path) -> None:
    with Reader(tmp_path) as reader:
        for block in blocks_of(TUTORIAL, "sh", "yaml", "python", "jinja", "csv"):
            if block.title not in ("install", "deploy"):
                reader.follow(block)


def test_what_the_tutorial_deploys_is_what_the_example_does() -> None:
    [deploy] = [block for block in blocks_of(TUTORIAL, "sh") if block.title == "deploy"]
    script = (ROOT / "examples/deploy/deploy.sh").read_text()
    for words in lakemesh_commands(deploy):
        assert f"lakemesh {words[0]}" in script


@judged
@pytest.mark.parametrize("page", sorted((ROOT / "examples").glob("*/README.md")), ids=lambda page: page.parent.name)
def test_an_examples_commands_run(page: Path, tmp_path: Path) -> None:
    folder = page.parent
    if any("pip install" in block.text for block in blocks_of(page, "sh")) or folder.name == "deploy":
        pytest.skip("its own test runs it, where what it needs is installed")
    for path in folder.rglob("*"):
        if path.is_file() and "__pycache__" not in path.parts and ".lakemesh" not in path.parts:
            target = tmp_path / path.relative_to(folder)
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(path.read_bytes())
    with Reader(tmp_path) as reader:
        for block in blocks_of(page, "sh"):
            reader.follow(block)
