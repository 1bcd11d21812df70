"""Metrics at a fifth of the SDK's price: OpenTelemetry instruments that sum in place.

They are meters and instruments of the OpenTelemetry API to everybody who uses them, cumulative as Prometheus wants it.
What the SDK does for every measurement and this server does not need is left out: views, a copy of the attributes,
a storage per reader. `collect` reads all of them; it is called for the tables and for `/metrics`, and changes nothing.
"""

import threading
import time
from bisect import bisect_left
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from typing import Any, TypeVar, cast

from opentelemetry import metrics as api
from opentelemetry.metrics import CallbackOptions
from opentelemetry.trace import get_current_span

from lakemesh.telemetry.records import MetricRecord

MAX_POINTS = 2_000
"""Sets of attributes an instrument keeps apart (the SDK specification's cardinality limit); the rest is one point."""
OVERFLOW = {"otel.metric.overflow": True}
# The metrics SDK specification's default boundaries, for instruments that advise none.
BOUNDARIES = (
    0.0,
    5.0,
    10.0,
    25.0,
    50.0,
    75.0,
    100.0,
    250.0,
    500.0,
    750.0,
    1_000.0,
    2_500.0,
    5_000.0,
    7_500.0,
    10_000.0,
)
CUMULATIVE = "AGGREGATION_TEMPORALITY_CUMULATIVE"

Attributes = Mapping[str, Any] | None
Callbacks = Sequence[Any] | None
"""Functions of `CallbackOptions`, or generators, that give observations."""

T = TypeVar("T")


class Point:
    """What was measured under one set of attributes."""

    __slots__ = ("attributes", "counts", "exemplars", "highest", "lowest", "start_ns", "value")

    def __init__(self, attributes: Mapping[str, Any], buckets: int) -> None:
        self.attributes = attributes
        self.start_ns = time.time_ns()
        self.value: float = 0
        self.counts = [0] * buckets
        self.lowest, self.highest = float("inf"), float("-inf")
        self.exemplars: dict[int, tuple[int, float, int, int]] = {}


class Points:
    """The points of one instrument."""

    def __init__(self, buckets: int = 0) -> None:
        self.lock = threading.Lock()
        self._buckets = buckets
        self._by_given: dict[Any, Point] = {}
        self._by_set: dict[Any, Point] = {}

    def of(self, attributes: Attributes) -> Point:
        """The point of these attributes, in whichever order they are given."""
        key = tuple(attributes.items()) if attributes else ()
        try:
            point = self._by_given.get(key)
        except TypeError:  # a list among the values
            key = tuple((name, repr(value)) for name, value in key)
            point = self._by_given.get(key)
        return point or self._new(key, attributes or {})

    def all(self) -> list[Point]:
        with self.lock:
            return list(self._by_set.values())

    def _new(self, key: Any, attributes: Mapping[str, Any]) -> Point:
        with self.lock:
            if len(self._by_given) >= 4 * MAX_POINTS:
                self._by_given.clear()
            ordered = tuple(sorted(key))
            if len(self._by_set) >= MAX_POINTS and ordered not in self._by_set:
                attributes, ordered = OVERFLOW, tuple(OVERFLOW.items())
            point = self._by_set.get(ordered)
            if point is None:
                point = self._by_set[ordered] = Point(dict(attributes), self._buckets)
            self._by_given[key] = point
            return point


class LeanCounter(api.Counter, api.UpDownCounter):
    def __init__(self, name: str, unit: str, description: str) -> None:
        self.points = Points()

    def add(self, amount: float, attributes: Attributes = None, context: Any = None) -> None:
        point = self.points.of(attributes)
        with self.points.lock:
            point.value += amount


class LeanGauge(api._Gauge):
    def __init__(self, name: str, unit: str, description: str) -> None:
        self.points = Points()

    def set(self, amount: float, attributes: Attributes = None, context: Any = None) -> None:
        self.points.of(attributes).value = amount


class LeanHistogram(api.Histogram):
    """Each bucket keeps the last measurement of a sampled trace as its exemplar."""

    def __init__(self, name: str, unit: str, description: str, boundaries: Sequence[float] | None) -> None:
        self.boundaries = tuple(boundaries) if boundaries else BOUNDARIES
        self.points = Points(len(self.boundaries) + 1)

    def record(self, amount: float, attributes: Attributes = None, context: Any = None) -> None:
        point = self.points.of(attributes)
        bucket = bisect_left(self.boundaries, amount)
        span = get_current_span(context).get_span_context()
        with self.points.lock:
            point.counts[bucket] += 1
            point.value += amount
            if amount < point.lowest:
                point.lowest = amount
            if amount > point.highest:
                point.highest = amount
            if span.trace_flags & 1:
                point.exemplars[bucket] = (time.time_ns(), amount, span.trace_id, span.span_id)


class Observable(api.ObservableCounter, api.ObservableUpDownCounter, api.ObservableGauge):
    """Read when metrics are collected."""

    def __init__(self, name: str, callbacks: Callbacks, unit: str, description: str) -> None:
        self._callbacks = list(callbacks or ())
        self._start_ns = time.time_ns()

    def observe(self) -> Iterator[Point]:
        for callback in self._callbacks:
            observations = callback(CallbackOptions()) if callable(callback) else next(callback)
            for observation in observations or ():
                point = Point(dict(observation.attributes or {}), 0)
                point.start_ns, point.value = self._start_ns, observation.value
                yield point


class Instrument:
    """An instrument with what is said about it."""

    __slots__ = ("description", "instrument", "kind", "monotonic", "name", "scope", "unit")

    def __init__(
        self,
        instrument: Any,
        *,
        name: str,
        unit: str,
        description: str,
        kind: str,
        monotonic: bool,
        scope: tuple[str, str | None],
    ) -> None:
        self.instrument, self.name, self.unit, self.description = instrument, name, unit, description
        self.kind, self.monotonic, self.scope = kind, monotonic, scope

    def collect(self, now_ns: int) -> Iterator[MetricRecord]:
        observed = isinstance(self.instrument, Observable)
        for point in self.instrument.observe() if observed else self.instrument.points.all():
            yield MetricRecord(
                now_ns,
                point.start_ns,
                self.name,
                self.description,
                self.unit,
                self.kind,
                self._value(point),
                self.scope,
            )

    def _value(self, point: Point) -> dict[str, Any]:
        common = {"attributes": point.attributes, "flags": 0, "exemplars": []}
        if self.kind == "gauge":
            return {**common, "value": float(point.value)}
        if self.kind == "sum":
            temporality = {"aggregation_temporality": CUMULATIVE, "is_monotonic": self.monotonic}
            return {**common, **temporality, "value": float(point.value)}
        with self.instrument.points.lock:
            counts, total, exemplars = list(point.counts), float(point.value), list(point.exemplars.values())
        return {
            **common,
            "aggregation_temporality": CUMULATIVE,
            "count": sum(counts),
            "sum": total,
            "bucket_counts": counts,
            "explicit_bounds": list(self.instrument.boundaries),
            "min": float(point.lowest),
            "max": float(point.highest),
            "exemplars": [exemplar(*one) for one in exemplars],
        }


def exemplar(time_ns: int, value: float, trace_id: int, span_id: int) -> dict[str, Any]:
    return {
        "time_unix_nano": time_ns,
        "value": float(value),
        "span_id": f"{span_id:016x}",
        "trace_id": f"{trace_id:032x}",
        "filtered_attributes": {},
    }


class LeanMeterProvider(api.MeterProvider):
    """Meters, and everything measured by them. An instrument that is made twice is the same."""

    def __init__(self) -> None:
        self._instruments: dict[tuple[str, str], Instrument] = {}
        self._lock = threading.Lock()

    def get_meter(
        self, name: str, version: str | None = None, schema_url: str | None = None, attributes: Attributes = None
    ) -> api.Meter:
        return LeanMeter(self, name, version)

    def collect(self) -> list[MetricRecord]:
        """Every point as it is now. Observers are called; one that fails is left out."""
        with self._lock:
            instruments = list(self._instruments.values())
        now_ns = time.time_ns()
        return [record for one in instruments for record in collected(one, now_ns)]

    def add(self, scope: tuple[str, str | None], name: str, make: Callable[[], Instrument]) -> Any:
        with self._lock:
            key = (scope[0], name.lower())
            if key not in self._instruments:
                self._instruments[key] = make()
            return self._instruments[key].instrument


def collected(instrument: Instrument, now_ns: int) -> list[MetricRecord]:
    try:
        return list(instrument.collect(now_ns))
    except Exception:  # noqa: BLE001 (an observer is anybody's code; the other instruments are to be read all the same)
        return []


class LeanMeter(api.Meter):
    def __init__(self, provider: LeanMeterProvider, name: str, version: str | None) -> None:
        super().__init__(name, version)
        self._provider = provider

    def create_counter(self, name: str, unit: str = "", description: str = "") -> api.Counter:
        return self._add("sum", True, LeanCounter, name, unit, description)

    def create_up_down_counter(self, name: str, unit: str = "", description: str = "") -> api.UpDownCounter:
        return self._add("sum", False, LeanCounter, name, unit, description)

    def create_gauge(self, name: str, unit: str = "", description: str = "") -> api._Gauge:
        return self._add("gauge", False, LeanGauge, name, unit, description)

    def create_histogram(
        self,
        name: str,
        unit: str = "",
        description: str = "",
        *,
        explicit_bucket_boundaries_advisory: Sequence[float] | None = None,
    ) -> api.Histogram:
        def make(name: str, unit: str, description: str) -> LeanHistogram:
            return LeanHistogram(name, unit, description, explicit_bucket_boundaries_advisory)

        return self._add("histogram", False, make, name, unit, description)

    def create_observable_counter(
        self, name: str, callbacks: Callbacks = None, unit: str = "", description: str = ""
    ) -> api.ObservableCounter:
        return self._add("sum", True, partial(observable, callbacks), name, unit, description)

    def create_observable_up_down_counter(
        self, name: str, callbacks: Callbacks = None, unit: str = "", description: str = ""
    ) -> api.ObservableUpDownCounter:
        return self._add("sum", False, partial(observable, callbacks), name, unit, description)

    def create_observable_gauge(
        self, name: str, callbacks: Callbacks = None, unit: str = "", description: str = ""
    ) -> api.ObservableGauge:
        return self._add("gauge", False, partial(observable, callbacks), name, unit, description)

    def _add(
        self, kind: str, monotonic: bool, make: Callable[[str, str, str], T], name: str, unit: str, description: str
    ) -> T:
        scope = (self.name, self.version)
        made = self._provider.add(
            scope,
            name,
            lambda: Instrument(
                make(name, unit, description),
                name=name,
                unit=unit,
                description=description,
                kind=kind,
                monotonic=monotonic,
                scope=scope,
            ),
        )
        return cast(T, made)


def observable(callbacks: Callbacks, name: str, unit: str, description: str) -> Observable:
    return Observable(name, callbacks, unit, description)
