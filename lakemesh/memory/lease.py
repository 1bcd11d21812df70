"""Whose turn it is to do what one replica at a time does."""

import asyncio
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Protocol
from uuid import uuid4

from lakemesh.file_lock import FileLock
from lakemesh.lakehouse.room_tables import RoomTables

LEASE_SECONDS = 120.0

# Not while another holds it, nor sooner than `every` seconds after it was done by whomever.
TAKE = """
INSERT INTO lakemesh.leases AS lease (name, holder, until)
VALUES (%(name)s, %(holder)s, now() + make_interval(secs => %(seconds)s))
ON CONFLICT (name) DO UPDATE SET holder = excluded.holder, until = excluded.until
WHERE (lease.until <= now() OR lease.holder = excluded.holder)
    AND (lease.holder = excluded.holder OR lease.done_at IS NULL
        OR lease.done_at <= now() - make_interval(secs => %(every)s))
RETURNING name
"""
END = """
UPDATE lakemesh.leases SET holder = NULL, until = now(),
    done_at = CASE WHEN %(figures)s::json IS NULL THEN done_at ELSE now() END,
    figures = coalesce(%(figures)s::json, figures)
WHERE name = %(name)s AND holder = %(holder)s
"""


class Lease(Protocol):
    """Taken, held and given back by one of several processes."""

    async def take(self, *, every_seconds: float) -> bool:
        """Whether it is ours now, for `LEASE_SECONDS`; asked again while it is, it is ours for so long from then on."""
        ...

    async def end(self, figures: Mapping[str, Any] | None) -> None:
        """Give it back; with `figures` it is done."""
        ...


class DatabaseLease:
    """Over all replicas. Raises `DatabaseUnavailable`."""

    def __init__(self, tables: RoomTables, name: str) -> None:
        self._tables = tables
        self._name = name
        self._holder = uuid4()

    async def take(self, *, every_seconds: float) -> bool:
        values = {"name": self._name, "holder": self._holder, "seconds": LEASE_SECONDS, "every": every_seconds}
        return bool(await self._tables.fetch(TAKE, values))

    async def end(self, figures: Mapping[str, Any] | None) -> None:
        told = json.dumps(dict(figures)) if figures is not None else None
        await self._tables.execute(END, {"name": self._name, "holder": self._holder, "figures": told})


class FileLease:
    """Over the processes of one home."""

    def __init__(self, file: Path) -> None:
        self._lock = FileLock(file)
        self._held = False

    async def take(self, *, every_seconds: float) -> bool:
        self._held = self._held or await asyncio.to_thread(self._lock.try_acquire)
        return self._held

    async def end(self, figures: Mapping[str, Any] | None) -> None:
        self._lock.release()
        self._held = False
