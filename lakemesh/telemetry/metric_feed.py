"""Metrics into the tables: read every so often, what has changed becomes rows."""

import asyncio
import os
import time
from collections.abc import Callable
from typing import Any

from lakemesh.config.telemetry import TelemetryConfig
from lakemesh.telemetry.meter import LeanMeterProvider
from lakemesh.telemetry.records import MetricRecord

ALWAYS = "lakemesh.telemetry."


class MetricFeed:
    """Puts every point that changed since it was put last; all of them once in `metrics_idle_seconds`, and always those
    that alerts compare with what they were.
    `OTEL_METRIC_EXPORT_INTERVAL` (milliseconds) wins over the configuration."""

    def __init__(
        self, config: TelemetryConfig, provider: LeanMeterProvider, put: Callable[[MetricRecord], None]
    ) -> None:
        given = os.environ.get("OTEL_METRIC_EXPORT_INTERVAL", "")
        self._seconds = float(given) / 1_000 if given.isdecimal() and int(given) else config.metrics_seconds
        self._idle_seconds = config.metrics_idle_seconds
        self._provider = provider
        self._put = put
        self._last: dict[Any, Any] = {}
        self._all_at = 0.0

    async def run(self) -> None:
        while True:
            await asyncio.sleep(self._seconds)
            await asyncio.to_thread(self.put_changed)

    def put_changed(self) -> None:
        if time.monotonic() - self._all_at >= self._idle_seconds:
            self._last.clear()
            self._all_at = time.monotonic()
        for record in self._provider.collect():
            point = record.point
            key = (record.scope, record.name, *sorted(f"{k}={v}" for k, v in point["attributes"].items()))
            value = point.get("value"), point.get("count"), point.get("sum")
            if self._last.get(key) != value or record.name.startswith(ALWAYS):
                self._last[key] = value
                self._put(record)
