"""What a power cut leaves: commits brought to disk before they are acknowledged, and a last commit that was not.

delta-rs renames its files into place and does not fsync them, so a power cut can leave the newest commit of a table
empty or cut short, or its data files so. delta-rs reads an empty commit as one that changed nothing.
"""

import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import structlog

logger = structlog.get_logger(__name__)

PARQUET_MAGIC = b"PAR1"


def log_file(folder: Path, version: int) -> Path:
    return folder / "_delta_log" / f"{version:020d}.json"


def actions(commit: Path) -> list[dict[str, Any]]:
    """What the commit did. Raises `ValueError` for one that is empty or cut short."""
    lines = commit.read_bytes().splitlines()
    if not lines:
        raise ValueError("the commit is empty")
    return [json.loads(line) for line in lines]


def added_files(folder: Path, commit: list[dict[str, Any]]) -> Iterator[tuple[Path, int]]:
    """The commit's data files and their sizes. The log holds paths percent-encoded, relative to the folder."""
    for action in commit:
        if "add" in action:
            yield folder / unquote(action["add"]["path"]), int(action["add"]["size"])


def removed_files(folder: Path, version: int) -> set[str]:
    return {action["remove"]["path"] for action in actions(log_file(folder, version)) if "remove" in action}


def sync_commits(folder: Path, after: int, up_to: int) -> None:
    """Bring the commits of the versions after `after`, and the files they name, to the disk itself."""
    directories = {folder, folder / "_delta_log"}
    for version in range(after + 1, up_to + 1):
        commit = log_file(folder, version)
        for file, _ in added_files(folder, actions(commit)):
            sync(file)
            directories.add(file.parent)
        sync(commit)
        checkpoint = commit.with_name(f"{version:020d}.checkpoint.parquet")
        if checkpoint.exists():
            sync(checkpoint)
            sync(commit.with_name("_last_checkpoint"))
    for directory in directories:
        sync(directory)


def sync_new_table(folder: Path, root: Path) -> None:
    sync_commits(folder, -1, 0)
    while folder != root:
        folder = folder.parent
        sync(folder)


def sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def recover_tables(root: Path) -> list[str]:
    """Take back the newest commit of every table below `root` whose commit or data files are not whole, since it was
    never acknowledged; what was done, in words. Only for a moment in which no process has the tables open."""
    return [done for log in sorted(root.glob("*/*/*/_delta_log")) if (done := recover_table(log.parent)) is not None]


def recover_table(folder: Path) -> str | None:
    log = folder / "_delta_log"
    hint = log / "_last_checkpoint"
    if hint.exists() and not is_json(hint):
        set_aside(hint)
    for checkpoint in sorted(log.glob("*.checkpoint.parquet"))[-1:]:
        if not is_whole_parquet(checkpoint, None):
            set_aside(checkpoint)
            hint.unlink(missing_ok=True)
    newest = max(log.glob("*.json"), default=None)
    if newest is None:
        return None
    try:
        commit = actions(newest)
        cut = [file.name for file, size in added_files(folder, commit) if not is_whole_parquet(file, size)]
    except (ValueError, KeyError, TypeError):
        cut = [newest.name]
    if not cut:
        return None
    kept = set_aside(newest)
    logger.error("a commit that never reached the disk was taken back", table=str(folder), damaged=cut, kept=str(kept))
    return f"{folder.name}: version {int(newest.stem)} was cut short ({cut[0]}) and is set aside as {kept.name}"


def is_json(file: Path) -> bool:
    try:
        json.loads(file.read_bytes())
    except ValueError:
        return False
    return True


def is_whole_parquet(file: Path, size: int | None) -> bool:
    try:
        with file.open("rb") as content:
            length = content.seek(0, os.SEEK_END)
            if length < 2 * len(PARQUET_MAGIC) or (size is not None and length != size):
                return False
            content.seek(-len(PARQUET_MAGIC), os.SEEK_END)
            return content.read() == PARQUET_MAGIC
    except FileNotFoundError:
        return False


def set_aside(file: Path) -> Path:
    """Under a name that neither delta-rs nor `max` of the log takes for a commit."""
    return file.rename(file.with_name(f"damaged-{file.name}.kept"))
