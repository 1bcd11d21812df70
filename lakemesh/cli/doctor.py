"""`lakemesh doctor`: what a deployment would stumble over, before it is begun."""

import sys

import typer

from lakemesh.cli.option_groups import grouped
from lakemesh.cli.target import TargetOptions

MARKS = {"ok": "ok     ", "warning": "warning", "fault": "FAULT  "}


@grouped
def doctor(chosen: TargetOptions) -> None:
    """Check a workspace for all a deployment needs, and change nothing. Exit code 1 when something is missing."""
    from lakemesh.deploy.desired import source_of
    from lakemesh.deploy.doctor import examine

    target = chosen.open()
    faults = 0
    for finding in examine(target, source_of(target)):
        faults += finding.level == "fault"
        typer.echo(f"{MARKS[finding.level]}  {finding.about:<14} {finding.said}")
        if finding.mend:
            typer.echo(f"                         mend: {finding.mend}")
    typer.echo(f"{faults} faults" if faults else "ready to deploy")
    if faults:
        sys.exit(1)
