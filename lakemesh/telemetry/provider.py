"""The telemetry of one server: a tracer and two records on the way in, Delta tables on the way out."""

import os
import time
from pathlib import Path
from typing import Any

from opentelemetry.trace import NoOpTracerProvider, Tracer, get_current_span

from lakemesh import __version__
from lakemesh.config.telemetry import TelemetryConfig
from lakemesh.lakehouse.workspace import Workspace
from lakemesh.scope import ModelUse, current_scope
from lakemesh.telemetry.pipeline import Pipeline
from lakemesh.telemetry.records import ExecutionRecord, ModelRecord
from lakemesh.telemetry.spool import Spool


class Telemetry:
    """Recording never blocks and never fails: a record is buffered or counted as dropped.

    Disabled (`enabled: false`, or `OTEL_SDK_DISABLED=true` as OpenTelemetry has it), it still hands out a tracer
    whose spans are not recorded.
    """

    def __init__(self, config: TelemetryConfig, *, workspace: Workspace, folder: Path) -> None:
        self._pipeline: Pipeline | None = None
        self.tracer: Tracer = NoOpTracerProvider().get_tracer("lakemesh")
        if not config.enabled or os.environ.get("OTEL_SDK_DISABLED", "").lower() == "true":
            return
        spool = Spool(folder / "spool.db", max_bytes=config.spool_megabytes * 1024 * 1024)
        resource = service_resource(config)
        self._pipeline = Pipeline(config, workspace=workspace, spool=spool, resource=dict(resource.attributes))
        self.tracer = self._make_tracer(config, resource, self._pipeline)

    async def start(self) -> None:
        if self._pipeline is not None:
            self._pipeline.start()

    def record_execution(self, record: ExecutionRecord) -> None:
        if self._pipeline is not None:
            self._pipeline.buffer.put("executions", record)

    def record_model_use(self, use: ModelUse) -> None:
        """Keep a row for one model call, with the execution and the trace it was made in."""
        if self._pipeline is None:
            return
        scope = current_scope()
        trace_id = get_current_span().get_span_context().trace_id
        record = ModelRecord(
            timestamp_ns=time.time_ns(),
            execution_id=scope.execution_id if scope else None,
            agent_id=scope.agent_name if scope else None,
            trace_id=f"{trace_id:032x}" if trace_id else None,
            use=use,
        )
        self._pipeline.buffer.put("models", record)

    async def flush(self) -> bool:
        """Bring everything recorded so far to Delta; False when the sink is away and it waits in the spool."""
        return True if self._pipeline is None else await self._pipeline.flush()

    async def close(self, *, timeout_seconds: float) -> None:
        if self._pipeline is not None:
            await self._pipeline.close(timeout_seconds)

    def health(self) -> dict[str, Any]:
        return {"enabled": False} if self._pipeline is None else self._pipeline.health()

    def _make_tracer(self, config: TelemetryConfig, resource: Any, pipeline: Pipeline) -> Tracer:
        from opentelemetry.sdk.trace import TracerProvider
        from opentelemetry.sdk.trace.sampling import ParentBased, TraceIdRatioBased

        from lakemesh.telemetry.spans import FlatteningProcessor

        provider = TracerProvider(
            resource=resource, sampler=ParentBased(TraceIdRatioBased(config.sample_ratio)), shutdown_on_exit=False
        )
        provider.add_span_processor(FlatteningProcessor(pipeline.buffer.put))
        return provider.get_tracer("lakemesh", __version__)


def service_resource(config: TelemetryConfig) -> Any:
    """What the spans say of their source; `OTEL_SERVICE_NAME` and `OTEL_RESOURCE_ATTRIBUTES` win over the file."""
    from opentelemetry.sdk.resources import OTELResourceDetector, Resource

    base = Resource({"service.name": config.service_name, "service.version": __version__})
    return base.merge(OTELResourceDetector().detect())
