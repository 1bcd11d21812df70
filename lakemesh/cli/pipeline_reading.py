"""What several of the `lakemesh pipeline` commands read and print."""

from pathlib import Path
from typing import TYPE_CHECKING

import typer

if TYPE_CHECKING:
    from lakemesh.pipelines.definition import PipelineDefinition


def read(asked: str) -> "PipelineDefinition":
    """The definition in a file or a folder of that name; else what the request asks for."""
    from lakemesh.pipelines.folder import load_definition
    from lakemesh.pipelines.requests import definition_of

    is_path = len(asked) < 1_000 and (Path(asked).exists() or asked.endswith((".yaml", ".yml", ".json")))
    return load_definition(Path(asked)) if is_path else definition_of(asked)


def print_changes(before: "PipelineDefinition", after: "PipelineDefinition") -> bool:
    """Whether one of them is destructive."""
    from lakemesh.pipelines.diff import diff as changes_between

    changes = changes_between(before, after)
    for change in changes:
        typer.echo(f"{'!' if change.destructive else ' '} {change.what}")
    if not changes:
        typer.echo("nothing changes")
    return any(change.destructive for change in changes)
