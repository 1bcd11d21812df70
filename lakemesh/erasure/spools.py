"""Files of this machine that batches wait in: what was delivered leaves its bytes in them until they are rewritten."""

import asyncio
import json
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path

from lakemesh.spool.scrubbing import drop_dead_letters, scrub
from lakemesh.telemetry.chunk import read_batch
from lakemesh.telemetry.tables import KINDS

RECORDS = ("remember", "turn")
"""Kinds of batches whose lines are JSON objects with a `user`: memories, and turns of sessions."""


class SpoolsPlace:
    """The spools below `folder`, of every process of this home. What waits in them is delivered by their owners; here
    dead letters with something of the user go, and the files are rewritten without what is gone."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    async def settle(self) -> None:
        """Their owners deliver."""

    async def count(self, user: str) -> Mapping[str, int]:
        return {"files: dead letters": await asyncio.to_thread(self._drop, user, dry_run=True)}

    async def erase(self, user: str) -> None:
        await asyncio.to_thread(self._drop, user)

    async def purge(self) -> Mapping[str, str]:
        def scrubbed() -> None:
            for file in self._files():
                scrub(file)

        await asyncio.to_thread(scrubbed)
        return {}

    def _drop(self, user: str, *, dry_run: bool = False) -> int:
        concerned = partial(concerns, user=user)
        return sum(drop_dead_letters(file, concerned, dry_run=dry_run) for file in self._files())

    def _files(self) -> Sequence[Path]:
        return sorted(self._folder.glob("*/spool-*.db"))


def concerns(kind: str, content: bytes, *, user: str) -> bool:
    """Whether a batch has something of the user. One that cannot be read any longer is taken to."""
    try:
        if kind in RECORDS:
            return any(json.loads(line).get("user") == user for line in content.splitlines())
        if kind not in KINDS:
            return False
        rows = read_batch(content)
        if "user_id" in rows.column_names:
            return user in rows["user_id"].to_pylist()
        named = json.dumps(user)
        return (
            any(named in (text or "") for text in rows["attributes"].to_pylist())
            if "attributes" in rows.column_names
            else False
        )
    except (ValueError, OSError):
        return True
