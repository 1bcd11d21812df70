"""The sinks a batch can go to. Each is imported when configuration names it."""

from collections.abc import Callable, Mapping

from lakemesh.config.telemetry import SinkName, TelemetryConfig
from lakemesh.lakehouse.workspace import Workspace
from lakemesh.telemetry.sinks.base import Leftover, Parcel, Refused, Sink
from lakemesh.telemetry.sinks.fanout import FanOutSink

__all__ = ["Leftover", "Parcel", "Refused", "Sink", "make_sink"]


def make_sink(config: TelemetryConfig, workspace: Workspace) -> Sink:
    """The sink that `config.sinks` names, or a fan-out over several."""
    sinks = [MAKERS[name](config, workspace) for name in config.sinks]
    return sinks[0] if len(sinks) == 1 else FanOutSink(sinks)


def delta(config: TelemetryConfig, workspace: Workspace) -> Sink:
    from lakemesh.telemetry.sinks.delta import DeltaSink

    return DeltaSink(workspace, config)


def zerobus(config: TelemetryConfig, workspace: Workspace) -> Sink:
    from lakemesh.telemetry.sinks.zerobus import ZerobusSink

    assert config.zerobus is not None
    return ZerobusSink(workspace, config)


def otlp(config: TelemetryConfig, workspace: Workspace) -> Sink:
    from lakemesh.telemetry.sinks.otlp import OtlpSink

    return OtlpSink(config.otlp)


MAKERS: Mapping[SinkName, Callable[[TelemetryConfig, Workspace], Sink]] = {
    "delta": delta,
    "zerobus": zerobus,
    "otlp": otlp,
}
