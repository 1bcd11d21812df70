"""Pipelines for a workspace that has none of its own: those of a laptop, run on open-source Spark."""

import asyncio
import json
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import structlog

from lakemesh.config.settings import Settings
from lakemesh.file_lock import FileLock
from lakemesh.lakehouse.workspace import Workspace

logger = structlog.get_logger(__name__)


@asynccontextmanager
async def with_pipelines(workspace: Workspace, settings: Settings) -> AsyncIterator[Workspace]:
    """The workspace with pipelines: its own, or those kept in the home of an embedded one. While another process runs
    pipelines in this home there are none here."""
    if workspace.pipelines is not None or workspace.files is None:
        yield workspace
        return
    from lakemesh.pipelines.local import LocalPipelines
    from lakemesh.pipelines.spark.process import Spark

    lock = FileLock(settings.home / ".locks" / "pipelines.lock")
    if not await asyncio.to_thread(lock.try_acquire):
        logger.warning("no pipelines", reason=f"another process runs pipelines in {settings.home}")
        yield workspace
        return
    place = settings.home / "pipelines.json"
    kept = await asyncio.to_thread(read_kept, place)
    local = LocalPipelines(
        kept, files=workspace.files, workspace=workspace, spark=Spark(settings.spark),
        save=lambda: write_kept(place, kept),
    )  # fmt: skip
    try:
        yield replace(workspace, pipelines=local)
    finally:
        await local.close()
        lock.release()


def read_kept(place: Path) -> dict[str, dict[str, Any]]:
    found: dict[str, dict[str, Any]] = json.loads(place.read_text()) if place.exists() else {}
    return found


def write_kept(place: Path, kept: dict[str, dict[str, Any]]) -> None:
    """Whole, or not at all."""
    written = place.with_suffix(".new")
    written.write_text(json.dumps(kept))
    os.replace(written, place)
