"""Where batches end up: one small port, and what goes through it."""

from dataclasses import dataclass
from typing import Any, Protocol

from lakemesh.telemetry.tables import Kind


@dataclass(frozen=True, slots=True, kw_only=True)
class Parcel:
    """Rows of one kind for one table (`rows` is a `pyarrow.Table`). The pair of `app_id` and `version` names them:
    the same pair always carries the same rows, and the versions of one `app_id` grow for every target."""

    kind: Kind
    target: str
    app_id: str
    version: int
    rows: Any


class Refused(Exception):
    """The sink will never take this parcel, and has taken nothing of it; the message says why."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Leftover:
    """`count` rows of a parcel that the sink did not take, while it took the others. `rows` are those worth keeping;
    None where the sink does not say which they were."""

    rows: Any
    count: int
    reason: str


class Sink(Protocol):
    """`deliver` returns once the rows are durable on the other side, all but those it returns. It raises `Refused`
    when trying the parcel again is pointless; a `LakemeshError`, `OSError` or `TimeoutError` means that the sink is
    away for now, for `retry_after_seconds` if the error has it. Parcels of different kinds are delivered at the same
    time."""

    name: str
    group_records: int
    """The most rows one parcel should have; several batches of the spool go in one."""

    async def open(self, kind: Kind) -> None:
        """Make what the sink needs on the other side for that kind. Called again until it succeeds."""
        ...

    async def applied_version(self, target: str, app_id: str) -> int | None:
        """The newest version the other side is known to have, so that a restart skips it. None where nothing of
        the kind is remembered: such a sink delivers at least once, and readers tell doubles by `record_id`."""
        ...

    async def deliver(self, parcel: Parcel) -> Leftover | None: ...

    async def close(self) -> None: ...
