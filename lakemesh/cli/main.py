"""`lakemesh`: each command in a module of its own, which imports what is heavy when it is called."""

import sys

import typer
from rich.console import Console

from lakemesh import __version__
from lakemesh.cli import (
    config,
    demo,
    deploy,
    deployed,
    doctor,
    execute,
    init,
    mcp,
    memory,
    serve,
    sql,
    telemetry,
    top,
    traces,
    train_risk,
    workspace,
)
from lakemesh.errors import ConfigurationInvalid, LakemeshError

app = typer.Typer(no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False)
app.command("init")(init.init)
app.command("serve")(serve.serve)
app.command("execute")(execute.execute)
app.command("sql")(sql.sql)
app.command("demo")(demo.demo)
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
app.add_typer(config.config, name="config")
app.add_typer(memory.memory, name="memory")
app.add_typer(telemetry.telemetry, name="telemetry")


@app.callback(invoke_without_command=True)
def root(version: bool = typer.Option(False, "--version", help="Print the version and exit.")) -> None:
    """An agent server that lives on a lakehouse."""
    if version:
        typer.echo(__version__)
        raise typer.Exit


def main() -> None:
    """Exit codes: 0 done, 1 a designed error (printed as one sentence to stderr), 2 wrong usage."""
    console = Console(stderr=True, highlight=False)
    sys.path.insert(0, "")  # agents are found in the current folder, as under `python -m`
    try:
        app()
    except ConfigurationInvalid as error:
        for fault in error.errors:
            console.print(fault, style="red", markup=False)
        sys.exit(1)
    except LakemeshError as error:
        console.print(f"{error.title}: {error.detail}", style="red", markup=False)
        sys.exit(1)
