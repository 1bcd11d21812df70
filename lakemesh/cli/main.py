"""`lakemesh`: each command in a module of its own, which imports what is heavy when it is called."""

import sys
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NoReturn

import typer
from pydantic_core import ValidationError
from rich.console import Console

from lakemesh import __version__
from lakemesh.cli import (
    audit,
    budgets,
    chat,
    config,
    demo,
    deploy,
    deployed,
    dev,
    doctor,
    evaluate,
    execute,
    init,
    load,
    mcp,
    memory,
    model,
    monitor,
    nightly,
    optimize,
    pipeline,
    policy,
    prompts,
    rollout,
    serve,
    sessions,
    sql,
    telemetry,
    tokens,
    top,
    traces,
    train_risk,
    workspace,
)
from lakemesh.errors import ConfigurationInvalid, LakemeshError

app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)
app.command("init")(init.init)
app.command("serve")(serve.serve)
app.command("dev")(dev.dev)
app.command("load")(load.load)
app.command("execute")(execute.execute)
app.command("chat")(chat.chat)
app.command("evaluate")(evaluate.evaluate)
app.command("optimize")(optimize.optimize)
app.command("monitor")(monitor.monitor)
app.command("nightly")(nightly.nightly)
app.command("sql")(sql.sql)
app.command("demo")(demo.demo)
app.command("budgets")(budgets.budgets)
app.command("mcp")(mcp.mcp)
app.command("traces")(traces.traces)
app.command("top")(top.top)
app.command("train-risk")(train_risk.train_risk)
app.command("workspace")(workspace.workspace)
for command in (
    deploy.plan,
    deploy.apply,
    deploy.sync,
    doctor.doctor,
    deployed.status,
    deployed.verify,
    deployed.logs,
    deployed.restart,
    deployed.rollback,
    deploy.destroy,
):
    app.command(command.__name__)(command)
app.add_typer(audit.audit, name="audit")
app.add_typer(config.config, name="config")
app.add_typer(memory.memory, name="memory")
app.add_typer(model.model, name="model")
app.add_typer(prompts.prompts, name="prompts")
app.add_typer(pipeline.pipeline, name="pipeline")
app.add_typer(policy.policy, name="policy")
app.add_typer(rollout.rollout, name="rollout")
app.add_typer(sessions.sessions, name="sessions")
app.add_typer(telemetry.telemetry, name="telemetry")
app.add_typer(tokens.tokens, name="tokens")


@app.callback(invoke_without_command=True)
def root(
    context: typer.Context,
    version: bool = typer.Option(False, "--version", help="Print the version and exit."),
) -> None:
    """An agent server that lives on a lakehouse. Begin with `lakemesh demo`, or with `lakemesh init` for an app of your
    own."""
    if version:
        typer.echo(__version__)
        raise typer.Exit
    if context.invoked_subcommand is None:
        begin(context)
        raise typer.Exit
    from lakemesh.logs import configure_logging

    configure_logging("warning")


def begin(context: typer.Context) -> None:
    """What there is; and in a folder without an app, for who sits at a terminal, the offer to make one."""
    typer.echo(context.get_help())
    if not (sys.stdin.isatty() and sys.stdout.isatty()) or Path("config/lakemesh.yaml").exists():
        return
    if typer.confirm("There is no app in this folder. Make one now?", default=True):
        init.make(*init.ask(None), Path())


def main() -> None:
    """Exit codes: 0 done, 1 a designed error (printed as one sentence to stderr), 2 wrong usage."""
    warnings.filterwarnings("ignore", "Arrow output on a DB-API result")  # DuckDB's advice, for who calls it
    sys.path.insert(0, "")  # agents are found in the current folder, as under `python -m`
    try:
        app()
    except LakemeshError as error:
        fail(sentences_of(error))
    except ValidationError as error:  # of the environment: what is configured in files has designed errors
        fail([f"{name_of(fault)}: {fault['msg']}" for fault in error.errors()])
    except OSError as error:
        fail([f"{error.filename or 'The system'}: {error.strerror or error}"])


def sentences_of(error: LakemeshError) -> list[str]:
    return error.errors if isinstance(error, ConfigurationInvalid) else [f"{error.title}: {error.detail}"]


def name_of(fault: Mapping[str, Any]) -> str:
    """The variable that a setting comes from."""
    name = str(fault["loc"][0])
    return name if name.isupper() else f"LAKEMESH_{name.upper()}"


def fail(sentences: Sequence[str]) -> NoReturn:
    console = Console(stderr=True, highlight=False, soft_wrap=True)
    for sentence in sentences:
        console.print(sentence, style="red", markup=False)
    sys.exit(1)
