"""OpenTelemetry's own instrumentation of other libraries, into the same tables as everything else."""

from collections.abc import Callable, Sequence
from importlib.metadata import entry_points
from typing import Any

from opentelemetry.metrics import MeterProvider
from opentelemetry.trace import TracerProvider
from starlette.types import ASGIApp

from lakemesh.errors import ConfigurationInvalid

ASGI = "asgi"
UNOBSERVED_PATHS = "/health,/metrics"


class Instrumentation:
    """The instrumentors that configuration names, by their entry points (group `opentelemetry_instrumentor`), and
    `asgi`, which gives every HTTP request and WebSocket a server span. They patch their libraries for the whole
    process, so `stop` takes that back. Raises `ConfigurationInvalid` for one that is not installed."""

    def __init__(self, names: Sequence[str], *, tracer_provider: TracerProvider, meter_provider: MeterProvider) -> None:
        self._providers: dict[str, Any] = {"tracer_provider": tracer_provider, "meter_provider": meter_provider}
        self._observes_requests = ASGI in names
        self._instrumentors = load_instrumentors([name for name in names if name != ASGI])

    def start(self) -> None:
        for instrumentor in self._instrumentors:
            instrumentor.instrument(**self._providers)

    def stop(self) -> None:
        for instrumentor in self._instrumentors:
            instrumentor.uninstrument()

    def observed(self, app: ASGIApp) -> ASGIApp:
        """`app` with a span around every request, named by its method alone: what the path is a template of is not
        known yet, and names must be few."""
        if not self._observes_requests:
            return app
        try:
            from opentelemetry.instrumentation.asgi import OpenTelemetryMiddleware
            from opentelemetry.util.http import parse_excluded_urls
        except ImportError:
            raise not_installed(ASGI) from None
        middleware: ASGIApp = OpenTelemetryMiddleware(
            app,
            excluded_urls=parse_excluded_urls(UNOBSERVED_PATHS),
            default_span_details=lambda scope: (scope.get("method", "WebSocket"), {}),
            exclude_spans=["receive", "send"],
            **self._providers,
        )
        return middleware


def load_instrumentors(names: Sequence[str]) -> list[Any]:
    found: dict[str, Callable[[], Any]] = {
        point.name: point.load() for point in entry_points(group="opentelemetry_instrumentor") if point.name in names
    }
    for name in names:
        if name not in found:
            raise not_installed(name)
    return [found[name]() for name in names]


def not_installed(name: str) -> ConfigurationInvalid:
    return ConfigurationInvalid(
        [f"telemetry.instrument: {name!r:.60} needs the package opentelemetry-instrumentation-{name:.60}"]
    )
