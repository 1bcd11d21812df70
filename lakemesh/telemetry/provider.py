"""The telemetry of one server: OpenTelemetry and two records on the way in, tables on the way out."""

import asyncio
import logging
import os
import random
import time
from collections.abc import Callable, Iterable
from functools import partial
from pathlib import Path
from typing import Any

from opentelemetry.context import Context
from opentelemetry.metrics import CallbackOptions, Meter, Observation
from opentelemetry.trace import NoOpTracerProvider, Tracer, TracerProvider, get_current_span
from starlette.types import ASGIApp

from lakemesh import __version__
from lakemesh.config.telemetry import TelemetryConfig
from lakemesh.errors import LakemeshError, Unavailable
from lakemesh.lakehouse.workspace import Workspace
from lakemesh.scope import ExecutionScope, ModelUse, current_scope
from lakemesh.telemetry.audit_chain import AuditRecord, Head
from lakemesh.telemetry.instrumentation import Instrumentation
from lakemesh.telemetry.maintenance import Maintenance
from lakemesh.telemetry.meter import LeanMeterProvider
from lakemesh.telemetry.metric_feed import MetricFeed
from lakemesh.telemetry.model_metrics import ModelMetrics
from lakemesh.telemetry.pipeline import Pipeline
from lakemesh.telemetry.records import ExecutionRecord, FeedbackRecord, ModelRecord, SpanRecord
from lakemesh.telemetry.refusals import Refusals
from lakemesh.telemetry.sampling import HeadSampling, TailSampling, head_sampling
from lakemesh.telemetry.sinks import make_sinks
from lakemesh.telemetry.tracer import LeanTracer

DROP_REASONS = ("buffer_full", "spool_full", "not_convertible")


class Telemetry:
    """Recording never blocks and never fails: a record is buffered, or counted as dropped with its reason.

    `tracer` is for the request path; `tracer_provider` is an SDK provider into the same tables, for the
    instrumentation of other libraries; `meter` is for metrics, which `prometheus` shows. No global provider is set
    here. Disabled (`enabled: false`, or `OTEL_SDK_DISABLED=true` as OpenTelemetry has it), all of them still work and
    write nothing.
    """

    def __init__(
        self,
        config: TelemetryConfig,
        *,
        workspace: Workspace,
        folder: Path,
        audit_key: bytes = b"",
        audit_sealed: bool = False,
    ) -> None:
        self.tracer: Tracer = NoOpTracerProvider().get_tracer("lakemesh")
        self.tracer_provider: TracerProvider = NoOpTracerProvider()
        self._config = config
        self.meter_provider = LeanMeterProvider()
        self.meter: Meter = self.meter_provider.get_meter("lakemesh", __version__)
        self._model_metrics = ModelMetrics(self.meter)
        self._refusals = Refusals(self.tracer)
        self._pipeline: Pipeline | None = None
        self._handler: logging.Handler | None = None
        self._feeding: asyncio.Task[None] | None = None
        self._instrumentation: Instrumentation | None = None
        if not config.enabled or os.environ.get("OTEL_SDK_DISABLED", "").strip().lower() == "true":
            return
        self._resource = service_resource(config)
        resource = dict(self._resource.attributes)
        sinks = make_sinks(config, workspace, resource)
        self._pipeline = Pipeline(
            config,
            sinks=sinks,
            folder=folder,
            resource=resource,
            audit_key=audit_key,
            audit_sealed=audit_sealed,
        )
        self._maintenance = Maintenance(config, workspace)
        sampling = head_sampling(config)
        self._tail, put = make_tail(sampling, config, partial(self._pipeline.buffer.put, "spans"))
        self.tracer = LeanTracer("lakemesh", __version__, sampling=sampling, put=put)
        self._refusals = Refusals(self.tracer)
        self.tracer_provider = make_tracer_provider(self._resource, sampling, put)

    async def start(self) -> None:
        """Begin to deliver. Metrics, log lines and what other libraries do are taken from here on. Raises
        `ConfigurationInvalid` for an instrumentor that is not installed."""
        if self._pipeline is None:
            return
        self._pipeline.start()
        self._maintenance.start()
        self._feed = MetricFeed(self._config, self.meter_provider, partial(self._pipeline.buffer.put, "metrics"))
        self._feeding = asyncio.ensure_future(self._feed.run())
        observe_pipeline(self.meter, self._pipeline)
        if self._config.instrument:
            self._instrumentation = Instrumentation(
                self._config.instrument, tracer_provider=self.tracer_provider, meter_provider=self.meter_provider
            )
            self._instrumentation.start()
        if self._config.log_level is not None:
            from lakemesh.telemetry.logs import BufferHandler

            self._handler = BufferHandler(partial(self._pipeline.buffer.put, "logs"), level=self._config.log_level)
            logging.getLogger().addHandler(self._handler)

    def observed(self, app: ASGIApp) -> ASGIApp:
        """`app` with a span around every request, when configuration asks for it."""
        return self._instrumentation.observed(app) if self._instrumentation else app

    def record_execution(self, record: ExecutionRecord) -> None:
        if self._pipeline is not None:
            self._pipeline.buffer.put("executions", record)

    def record_refusal(
        self,
        error: LakemeshError,
        *,
        agent: str = "",
        user: str = "",
        door: str,
        session_id: str | None = None,
        parent: Context | None = None,
    ) -> ExecutionRecord | None:
        """Keep a row and a span of a request that was refused before an agent ran; None of it in a flood of them."""
        record = self._refusals.record(error, agent=agent, user=user, door=door, session_id=session_id, parent=parent)
        if record is not None:
            self.record_execution(record)
        return record

    def record_audit(self, record: AuditRecord) -> None:
        """Keep a record of who did what. While that is not sure to succeed, `require_audit` refuses."""
        if self._pipeline is not None:
            self._pipeline.buffer.put("audit", record)

    def renew_audit_key(self, user: str) -> None:
        """Seal what this person does from now on with another key."""
        if self._pipeline is not None:
            self._pipeline.renew_audit_key(user)

    def require_audit(self) -> None:
        """Raises `Unavailable` while audit records might be lost: what cannot be told is not done."""
        reason = self._pipeline.cannot_keep_audit if self._pipeline is not None else "telemetry is off"
        if reason is not None:
            raise Unavailable(f"The audit trail cannot be written ({reason}); try again.", retry_after_seconds=5.0)

    @property
    def audit_head(self) -> Head | None:
        """The newest audit record that is on disk."""
        return self._pipeline.audit_head if self._pipeline is not None else None

    def record_model_use(self, use: ModelUse) -> None:
        """Count one model call and keep a row for it, with the execution and the trace it was made in."""
        self._model_metrics.used(use)
        if self._pipeline is None:
            return
        scope = current_scope()
        trace_id = get_current_span().get_span_context().trace_id
        record = ModelRecord(
            timestamp_ns=time.time_ns(),
            execution_id=scope.execution_id if scope else None,
            agent_id=scope.agent_name if scope else None,
            session_id=scope.session_id if scope else None,
            user=scope.identity.user if scope else None,
            trace_id=f"{trace_id:032x}" if trace_id else None,
            use=use,
        )
        self._pipeline.buffer.put("models", record)

    async def record_feedback(self, record: FeedbackRecord) -> None:
        """Keep what a person said of an execution; it is on disk when this returns, unless the disk takes longer than
        answers wait for it. Raises `Unavailable` where telemetry is off."""
        if self._pipeline is None:
            raise Unavailable("Telemetry is off here (telemetry.enabled), so feedback cannot be kept.")
        self._pipeline.buffer.put("feedback", record)
        await self._pipeline.committed()

    def configure(self, config: TelemetryConfig) -> None:
        """Take what may change while running: whose content is kept. The rest needs a new start."""
        self._config = self._config.model_copy(update={"capture_content": config.capture_content})

    def captures(self, scope: ExecutionScope | None) -> bool:
        """Whether content of that execution is kept; outside of one, whether everybody's is."""
        if scope is None:
            return self._config.capture_content is True
        return self._config.captures(scope.agent_name, scope.identity.user)

    def prometheus(self) -> str:
        """Every metric as Prometheus reads it."""
        from lakemesh.telemetry.prometheus import exposition

        return exposition(self.meter_provider.collect())

    async def before_answer(self) -> None:
        """Called when an execution has been recorded and its answer is about to go: with `before_answer` configured,
        and while a new server warms up, it waits until the record is on disk, together with the answers that go at the
        same time."""
        if self._pipeline is not None and (self._config.before_answer or self._pipeline.warming_up):
            await self._pipeline.committed()

    async def flush(self) -> bool:
        """Bring everything recorded so far to the sinks; False when one is away and the rest waits in the spool."""
        return True if self._pipeline is None else await self._pipeline.flush()

    async def close(self, timeout_seconds: float) -> None:
        """Spool everything, then deliver what fits in the time. Nothing may be recorded afterwards."""
        if self._pipeline is None:
            return
        if self._handler is not None:
            logging.getLogger().removeHandler(self._handler)
        if self._instrumentation is not None:
            self._instrumentation.stop()
        if self._feeding is not None:
            self._feeding.cancel()
            self._feeding = None
            self._feed.put_changed()
        await self._maintenance.close()
        await self._pipeline.close(timeout_seconds)

    def health(self) -> dict[str, Any]:
        """For `/health/ready` and people: what waits, what was lost and why, and whether the sink answers."""
        if self._pipeline is None:
            return {"enabled": False}
        return {**self._pipeline.health(), "sampled_out": dict(self._tail.sampled_out) if self._tail else {}}


def make_tail(
    sampling: HeadSampling, config: TelemetryConfig, put: Callable[[SpanRecord], None]
) -> tuple[TailSampling | None, Callable[[SpanRecord], None]]:
    """Tail rules between the tracers and the buffer, unless every trace is kept anyway."""
    if sampling.keeps_all or not sampling.record_unsampled:
        return None, put
    tail = TailSampling(put, keep_errors=config.keep_errors, slow_ms=config.keep_slower_than_ms)
    return tail, tail.put


def make_tracer_provider(resource: Any, sampling: HeadSampling, put: Callable[[SpanRecord], None]) -> TracerProvider:
    from opentelemetry.sdk.trace import TracerProvider as SdkTracerProvider

    from lakemesh.telemetry.spans import FlatteningProcessor, HeadSampler

    provider = SdkTracerProvider(resource=resource, sampler=HeadSampler(sampling), shutdown_on_exit=False)
    provider.add_span_processor(FlatteningProcessor(put))
    return provider


def service_resource(config: TelemetryConfig) -> Any:
    """What the rows say of their source, this process by an id of its own; `OTEL_SERVICE_NAME`
    and `OTEL_RESOURCE_ATTRIBUTES` win over the file."""
    from opentelemetry.sdk.resources import OTELResourceDetector, Resource

    instance = f"{random.getrandbits(128):032x}"
    base = Resource(
        {"service.name": config.service_name, "service.version": __version__, "service.instance.id": instance}
    )
    return base.merge(OTELResourceDetector().detect())


def observe_pipeline(meter: Meter, pipeline: Pipeline) -> None:
    """The pipeline's own health as metrics."""

    def dropped(_: CallbackOptions) -> Iterable[Observation]:
        counts = dict.fromkeys(DROP_REASONS, 0) | dict(pipeline.buffer.dropped)
        return [Observation(count, {"reason": reason}) for reason, count in counts.items()]

    def waiting(_: CallbackOptions) -> Iterable[Observation]:
        health = pipeline.health()
        return [
            Observation(health["buffered"], {"place": "memory"}),
            Observation(health["spooled_records"], {"place": "spool"}),
        ]

    def delivered(_: CallbackOptions) -> Iterable[Observation]:
        return [Observation(pipeline.health()["delivered_records"])]

    def refused(_: CallbackOptions) -> Iterable[Observation]:
        health = pipeline.health()
        yield Observation(health["refused_records"])

    def dead(_: CallbackOptions) -> Iterable[Observation]:
        yield Observation(pipeline.health()["dead_batches"])

    meter.create_observable_counter("lakemesh.telemetry.dropped", [dropped], "{record}", "records lost, by reason")
    meter.create_observable_counter("lakemesh.telemetry.refused", [refused], "{record}", "records refused by a sink")
    meter.create_observable_gauge("lakemesh.telemetry.dead_letters", [dead], "{batch}", "batches kept as dead letters")
    meter.create_observable_gauge("lakemesh.telemetry.waiting", [waiting], "{record}", "records not yet delivered")
    meter.create_observable_counter("lakemesh.telemetry.delivered", [delivered], "{record}", "records in the sink")
