"""The sinks a batch can go to. Each is imported when configuration names it."""

from collections.abc import Callable, Mapping
from typing import Any

from lakemesh.config.telemetry import SinkName, TelemetryConfig
from lakemesh.lakehouse.workspace import Workspace
from lakemesh.telemetry.sinks.base import Leftover, Parcel, Refused, Sink

__all__ = ["Leftover", "Parcel", "Refused", "Sink", "make_sinks"]

Attributes = Mapping[str, Any]


def make_sinks(config: TelemetryConfig, workspace: Workspace, resource: Attributes) -> list[Sink]:
    """The sinks that configuration names. `resource` are the attributes of this process."""
    return [MAKERS[name](config, workspace, resource) for name in dict.fromkeys(config.sink_names)]


def delta(config: TelemetryConfig, workspace: Workspace, resource: Attributes) -> Sink:
    from lakemesh.telemetry.sinks.delta import DeltaSink

    return DeltaSink(workspace, config)


def zerobus(config: TelemetryConfig, workspace: Workspace, resource: Attributes) -> Sink:
    from lakemesh.telemetry.sinks.zerobus import ZerobusSink

    assert config.zerobus is not None
    return ZerobusSink(workspace, config)


def otlp(config: TelemetryConfig, workspace: Workspace, resource: Attributes) -> Sink:
    from lakemesh.telemetry.sinks.otlp import OtlpSink

    return OtlpSink(config.otlp, resource)


MAKERS: Mapping[SinkName, Callable[[TelemetryConfig, Workspace, Attributes], Sink]] = {
    "delta": delta,
    "zerobus": zerobus,
    "otlp": otlp,
}
