"""Zerobus through its official SDK: rows as JSON records, kept in the spool until they are acknowledged.

At least once: after a broken stream the SDK sends again what was not acknowledged, and readers tell doubles by
`record_id` (executions by `execution_id`). The SDK would reconnect for ever over a record that is too large, so sizes
are checked before. Types travel as Zerobus' record mapping has them: TIMESTAMP as microseconds, DATE as days, VARIANT
as JSON text.
"""

import asyncio
from collections.abc import Iterator, Sequence
from contextlib import suppress
from typing import TYPE_CHECKING

from pydantic_core import to_json

from lakemesh import __version__
from lakemesh.config.telemetry import TelemetryConfig
from lakemesh.errors import WorkspaceUnavailable
from lakemesh.lakehouse.workspace import Workspace
from lakemesh.telemetry.sinks.base import Leftover, Parcel, Refused
from lakemesh.telemetry.tables import Kind, make_table

if TYPE_CHECKING:
    import pyarrow as pa
    from zerobus.sdk.aio import ZerobusSdk, ZerobusStream

MAX_RECORD_BYTES = 4 * 1024 * 1024 - 4096
SUBMISSION_BYTES = 2 * 1024 * 1024
SUBMISSION_RECORDS = 1_000
CLOSE_SECONDS = 5.0


class ZerobusSink:
    name = "zerobus"
    group_records = 5_000

    def __init__(self, workspace: Workspace, config: TelemetryConfig) -> None:
        assert config.zerobus is not None
        self._workspace = workspace
        self._config = config
        self._zerobus = config.zerobus
        self._sdk: ZerobusSdk | None = None
        self._streams: dict[str, ZerobusStream] = {}

    async def open(self, kind: Kind) -> None:
        """Zerobus writes only into tables that are there."""
        await make_table(self._workspace, self._config, kind)

    async def applied_version(self, target: str, app_id: str) -> int | None:
        return None

    async def deliver(self, parcel: Parcel) -> Leftover | None:
        from zerobus.sdk.aio import ZerobusException

        records = await asyncio.to_thread(to_records, parcel.rows)
        sound = [len(record) <= MAX_RECORD_BYTES for record in records]
        fitting = [record.decode() for record, fits in zip(records, sound, strict=True) if fits]
        try:
            async with asyncio.timeout(self._zerobus.ack_timeout_seconds):
                await self._send(parcel.target, fitting)
        except (ZerobusException, TimeoutError) as error:
            await self._drop_stream(parcel.target)
            if "invalid argument" in str(error).lower() or "invalidargument" in str(error).lower():
                raise Refused(str(error)) from error
            raise WorkspaceUnavailable(f"Zerobus did not acknowledge: {error or 'no answer in time'}") from error
        if len(fitting) == len(records):
            return None
        import pyarrow as pa

        rest = parcel.rows.filter(pa.array([not fits for fits in sound]))
        reason = f"a record is larger than {MAX_RECORD_BYTES} bytes"
        return Leftover(rows=rest, count=rest.num_rows, reason=reason)

    async def close(self) -> None:
        for target in list(self._streams):
            await self._drop_stream(target)

    async def _send(self, target: str, records: Sequence[str]) -> None:
        stream = await self._stream(target)
        offset = None
        for submission in submissions(records):
            offset = await stream.ingest_records_offset(submission)
        if offset is not None:
            await stream.wait_for_offset(offset)

    async def _stream(self, target: str) -> "ZerobusStream":
        from zerobus.sdk.aio import StreamConfigurationOptions, TableProperties, ZerobusSdk

        settings = self._zerobus
        if self._sdk is None:
            self._sdk = ZerobusSdk(settings.endpoint, settings.workspace_url, f"lakemesh/{__version__}")
        if target not in self._streams:
            timeout_ms = int(settings.ack_timeout_seconds * 1_000)
            options = StreamConfigurationOptions(
                server_lack_of_ack_timeout_ms=timeout_ms, flush_timeout_ms=timeout_ms, recovery_backoff_ms=200
            )
            self._streams[target] = await self._sdk.create_stream(
                client_id=settings.client_id,
                client_secret=settings.client_secret,
                table_properties=TableProperties(target),
                options=options,
            )
        return self._streams[target]

    async def _drop_stream(self, target: str) -> None:
        """Let go of a stream, with a time limit: closing one waits for acknowledgements that may never come."""
        from zerobus.sdk.aio import ZerobusException

        stream = self._streams.pop(target, None)
        if stream is not None:
            with suppress(ZerobusException, TimeoutError):
                async with asyncio.timeout(CLOSE_SECONDS):
                    await stream.close()


def to_records(rows: "pa.Table") -> list[bytes]:
    """Each row as one JSON object."""
    import pyarrow as pa

    for index, field in enumerate(rows.schema):
        plain = {"timestamp": pa.int64(), "date32": pa.int32()}.get(str(field.type).partition("[")[0])
        if plain is not None:
            rows = rows.set_column(index, field.name, rows.column(index).cast(plain))
    return [to_json(row) for row in rows.to_pylist()]


def submissions(records: Sequence[str]) -> Iterator[list[str]]:
    """The records in submissions of at most `SUBMISSION_RECORDS` and about `SUBMISSION_BYTES`."""
    batch: list[str] = []
    size = 0
    for record in records:
        if batch and (size + len(record) > SUBMISSION_BYTES or len(batch) >= SUBMISSION_RECORDS):
            yield batch
            batch, size = [], 0
        batch.append(record)
        size += len(record)
    if batch:
        yield batch
