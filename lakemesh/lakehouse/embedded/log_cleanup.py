"""Old commits let go of: their statistics hold the smallest and the largest values of what was deleted since."""

import json
import time
from pathlib import Path
from typing import TYPE_CHECKING

from lakemesh.lakehouse.embedded.durability import log_file, sync

if TYPE_CHECKING:
    from deltalake import DeltaTable

CHECKPOINT = ".checkpoint.parquet"


def clean_log(table: "DeltaTable", folder: Path, *, retention_hours: float) -> None:
    """Remove the commits that no version younger than `retention_hours` needs: those before a checkpoint that is as
    old. With no hours that is one of the newest version, made for it. Call it alone on the table."""
    if retention_hours == 0:
        make_checkpoint(table, folder)
    before = oldest_needed(folder, time.time() - retention_hours * 3_600)
    for file in sorted((folder / "_delta_log").glob("[0-9]*")):
        if version_of(file) < before:
            file.unlink()
    sync(folder / "_delta_log")


def make_checkpoint(table: "DeltaTable", folder: Path) -> None:
    """Of the version that `table` is at, on the disk itself."""
    table.create_checkpoint()
    sync(log_file(folder, table.version()).with_suffix(CHECKPOINT))
    sync(folder / "_delta_log/_last_checkpoint")


def newest_checkpoint(folder: Path) -> int:
    """The version of the last checkpoint; 0 when there is none."""
    try:
        return int(json.loads((folder / "_delta_log/_last_checkpoint").read_bytes())["version"])
    except (FileNotFoundError, ValueError, KeyError):
        return 0


def oldest_needed(folder: Path, cutoff: float) -> int:
    """The newest version that has a checkpoint and a commit from before `cutoff` (seconds since 1970), or 0."""
    checkpoints = [version_of(file) for file in (folder / "_delta_log").glob(f"*{CHECKPOINT}")]
    commits = ((version, log_file(folder, version)) for version in checkpoints)
    return max((version for version, file in commits if file.exists() and file.stat().st_mtime <= cutoff), default=0)


def version_of(file: Path) -> int:
    return int(file.name.partition(".")[0])
