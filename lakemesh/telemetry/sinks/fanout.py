"""Several sinks, each given everything."""

from collections.abc import Sequence

from lakemesh.telemetry.sinks.base import Leftover, Parcel, Refused, Sink


class FanOutSink:
    """A parcel is delivered when every sink has it; one that has it already is not given it again while the others
    catch up. Its refusal by one sink does not keep it from the rest."""

    def __init__(self, sinks: Sequence[Sink]) -> None:
        self.name = "+".join(sink.name for sink in sinks)
        self.group_records = min(sink.group_records for sink in sinks)
        self._sinks = sinks
        self._done: set[tuple[str, str, int]] = set()

    async def open(self) -> None:
        for sink in self._sinks:
            await sink.open()

    async def applied_version(self, target: str, app_id: str) -> int | None:
        """Known only when every sink remembers; the ones that do not must see the parcel again."""
        versions = [await sink.applied_version(target, app_id) for sink in self._sinks]
        known = [version for version in versions if version is not None]
        return min(known) if len(known) == len(versions) else None

    async def deliver(self, parcel: Parcel) -> Leftover | None:
        refusals = []
        for sink in self._sinks:
            key = (sink.name, parcel.target, parcel.version)
            if key in self._done:
                continue
            try:
                leftover = await sink.deliver(parcel)
            except Refused as refusal:
                leftover = Leftover(parcel.rows, str(refusal))
            if leftover is not None:
                refusals.append((sink.name, leftover))
            self._done.add(key)
        self._done -= {(sink.name, parcel.target, parcel.version) for sink in self._sinks}
        if not refusals:
            return None
        # Who replays it gives it to every sink again: doubles, told by their ids, are better than holes.
        rows = max((leftover.rows for _, leftover in refusals), key=len)
        return Leftover(rows, "; ".join(f"{name}: {leftover.reason}" for name, leftover in refusals))

    async def close(self) -> None:
        for sink in self._sinks:
            await sink.close()
