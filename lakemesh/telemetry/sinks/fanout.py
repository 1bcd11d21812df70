"""Several sinks, each given everything."""

from collections.abc import Sequence

from lakemesh.telemetry.sinks.base import Parcel, Refused, Sink


class FanOutSink:
    """A parcel is delivered when every sink has it; one that has it already is not given it again while the others
    catch up. Its refusal by one sink does not keep it from the rest."""

    def __init__(self, sinks: Sequence[Sink]) -> None:
        self.name = "+".join(sink.name for sink in sinks)
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

    async def deliver(self, parcel: Parcel) -> None:
        refusals = []
        for sink in self._sinks:
            key = (sink.name, parcel.target, parcel.version)
            if key in self._done:
                continue
            try:
                await sink.deliver(parcel)
            except Refused as refusal:
                refusals.append(f"{sink.name}: {refusal}")
            self._done.add(key)
        self._done -= {(sink.name, parcel.target, parcel.version) for sink in self._sinks}
        if refusals:
            raise Refused("; ".join(refusals))

    async def close(self) -> None:
        for sink in self._sinks:
            await sink.close()
