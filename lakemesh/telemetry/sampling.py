"""Which traces are kept: a share drawn at their head, and at their tail those that failed or were slow."""

import os
import threading
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass

import structlog
from opentelemetry.trace import SpanContext, TraceFlags

from lakemesh.config.telemetry import TelemetryConfig
from lakemesh.telemetry.records import SpanRecord

logger = structlog.get_logger(__name__)

RANDOM_BITS = (1 << 56) - 1
MAX_SPANS_OF_A_TRACE = 1_000
SAMPLED = int(TraceFlags.SAMPLED)


@dataclass(frozen=True, slots=True, kw_only=True)
class HeadSampling:
    """The decision when a trace starts: by the low 56 bits of its id, which are random (W3C Trace Context level 2),
    so that every server decides alike. A span's own children follow it; a remote caller's yes is followed when
    `parent_based`, its no is not: nobody makes an execution disappear from the tables of the server that ran it. With
    `record_unsampled`, spans of traces that were not drawn are recorded for the tail rules to decide."""

    ratio: float
    parent_based: bool = True
    record_unsampled: bool = False

    def is_sampled(self, trace_id: int, parent: SpanContext | None) -> bool:
        if parent is not None:
            if parent.trace_flags & SAMPLED and (self.parent_based or not parent.is_remote):
                return True
            if not parent.is_remote:
                return False
        return self.ratio >= 1.0 or (trace_id & RANDOM_BITS) >= (1.0 - self.ratio) * (RANDOM_BITS + 1)

    @property
    def keeps_all(self) -> bool:
        return self.ratio >= 1.0


def head_sampling(config: TelemetryConfig) -> HeadSampling:
    """By configuration, unless `OTEL_TRACES_SAMPLER` (and `OTEL_TRACES_SAMPLER_ARG`) say otherwise."""
    name = os.environ.get("OTEL_TRACES_SAMPLER", "").strip().lower()
    kind = name.removeprefix("parentbased_")
    ratios = {"always_on": 1.0, "always_off": 0.0, "traceidratio": ratio_argument()}
    if name and kind not in ratios:
        logger.warning("OTEL_TRACES_SAMPLER is not known and is ignored", sampler=name)
    known = kind in ratios
    return HeadSampling(
        ratio=ratios[kind] if known else config.sample_ratio,
        parent_based=not known or name.startswith("parentbased_"),
        record_unsampled=config.keep_errors or config.keep_slower_than_ms is not None,
    )


def ratio_argument() -> float:
    try:
        return min(1.0, max(0.0, float(os.environ.get("OTEL_TRACES_SAMPLER_ARG", "1.0"))))
    except ValueError:
        logger.warning("OTEL_TRACES_SAMPLER_ARG is not a number; every trace is kept")
        return 1.0


class TailSampling:
    """Holds the spans of traces that were not drawn until their local root ends, then keeps the whole part of the
    trace that ran here if any span failed or the root was slow, and lets it go otherwise. At most `max_spans` are
    held; the oldest trace is let go of first, and of a trace that is longer what came too late. All that was let go is
    counted in `sampled_out`. Spans may end in any thread."""

    def __init__(
        self, put: Callable[[SpanRecord], None], *, keep_errors: bool, slow_ms: float | None, max_spans: int = 20_000
    ) -> None:
        self._put = put
        self._keep_errors = keep_errors
        self._slow_ns = None if slow_ms is None else slow_ms * 1e6
        self._max_spans = max_spans
        self._count = 0
        self._held: dict[int, list[SpanRecord]] = {}
        self._lock = threading.Lock()
        self.sampled_out: Counter[str] = Counter()

    def put(self, span: SpanRecord) -> None:
        if span.flags & SAMPLED:
            self._put(span)
            return
        with self._lock:
            self._hold(span)
            ended = self._held.pop(span.trace_id) if span.is_local_root else []
            self._count -= len(ended)
        if ended:
            self._decide(ended, span)

    def _hold(self, span: SpanRecord) -> None:
        held = self._held.setdefault(span.trace_id, [])
        if len(held) >= MAX_SPANS_OF_A_TRACE and not span.is_local_root:
            self.sampled_out["too_long"] += 1
            return
        held.append(span)
        self._count += 1
        while self._count > self._max_spans and len(self._held) > 1:
            oldest = next(trace for trace in self._held if trace != span.trace_id)
            evicted = len(self._held.pop(oldest))
            self._count -= evicted
            self.sampled_out["evicted"] += evicted

    def _decide(self, spans: list[SpanRecord], root: SpanRecord) -> None:
        failed = self._keep_errors and any(span.status_code == "STATUS_CODE_ERROR" for span in spans)
        slow = self._slow_ns is not None and root.end_ns - root.start_ns >= self._slow_ns
        if failed or slow:
            for span in spans:
                self._put(span)
        else:
            self.sampled_out["not_drawn"] += len(spans)
