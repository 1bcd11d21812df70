"""Which traces are kept: a share drawn at their head, and at their tail those that failed or were slow."""

import os
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass

import structlog
from opentelemetry.trace import SpanContext, TraceFlags

from lakemesh.config.telemetry import TelemetryConfig
from lakemesh.telemetry.records import SpanRecord

logger = structlog.get_logger(__name__)

RANDOM_BITS = (1 << 56) - 1
SAMPLED = int(TraceFlags.SAMPLED)


@dataclass(frozen=True, slots=True, kw_only=True)
class HeadSampling:
    """The decision when a trace starts: by the low 56 bits of its id, which are random (W3C Trace Context level 2),
    so that every server decides alike. A caller's decision is followed when `parent_based`. With
    `record_unsampled`, spans of traces that were not drawn are recorded for the tail rules to decide."""

    ratio: float
    parent_based: bool = True
    record_unsampled: bool = False

    def is_sampled(self, trace_id: int, parent: SpanContext | None) -> bool:
        if parent is not None and self.parent_based:
            return bool(parent.trace_flags & SAMPLED)
        return self.ratio >= 1.0 or (trace_id & RANDOM_BITS) >= (1.0 - self.ratio) * (RANDOM_BITS + 1)

    @property
    def keeps_all(self) -> bool:
        return self.ratio >= 1.0 and not self.parent_based


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
    trace that ran here if any span failed or the root was slow, and lets it go otherwise. At most `max_traces` are
    held; the oldest is let go of first. All that was let go is counted in `sampled_out`."""

    def __init__(
        self, put: Callable[[SpanRecord], None], *, keep_errors: bool, slow_ms: float | None, max_traces: int = 1_000
    ) -> None:
        self._put = put
        self._keep_errors = keep_errors
        self._slow_ns = None if slow_ms is None else slow_ms * 1e6
        self._max_traces = max_traces
        self._held: dict[int, list[SpanRecord]] = {}
        self.sampled_out: Counter[str] = Counter()

    def put(self, span: SpanRecord) -> None:
        if span.flags & SAMPLED:
            self._put(span)
            return
        held = self._held.setdefault(span.trace_id, [])
        held.append(span)
        if span.is_local_root:
            self._decide(self._held.pop(span.trace_id), span)
        elif len(self._held) > self._max_traces:
            oldest = next(iter(self._held))
            self.sampled_out["evicted"] += len(self._held.pop(oldest))

    def _decide(self, spans: list[SpanRecord], root: SpanRecord) -> None:
        failed = self._keep_errors and any(span.status_code == "STATUS_CODE_ERROR" for span in spans)
        slow = self._slow_ns is not None and root.end_ns - root.start_ns >= self._slow_ns
        if failed or slow:
            for span in spans:
                self._put(span)
        else:
            self.sampled_out["not_drawn"] += len(spans)
