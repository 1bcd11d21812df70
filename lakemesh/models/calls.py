"""One call on one endpoint: its place among the others, its breaker, its span and its row."""

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

from opentelemetry.trace import Span, SpanKind, StatusCode, Tracer

from lakemesh.breaker import CircuitBreaker
from lakemesh.config.models import EndpointConfig
from lakemesh.deadline import Deadline
from lakemesh.lakehouse.endpoints import EndpointError, ModelEndpoint
from lakemesh.scope import ModelUse, current_scope


@dataclass(slots=True)
class CallFacts:
    """What a call fills in about its answer while it runs."""

    model: str
    input_tokens: int = 0
    output_tokens: int = 0
    finish_reason: str | None = None


class GuardedEndpoint:
    """An endpoint with a concurrency limit and a circuit breaker, which lasts as long as its configuration."""

    def __init__(
        self,
        name: str,
        config: EndpointConfig,
        *,
        endpoint: ModelEndpoint,
        tracer: Tracer,
        on_use: Callable[[ModelUse], None],
    ) -> None:
        self.name = name
        self.config = config
        self.endpoint = endpoint
        self.breaker = CircuitBreaker(failures=config.breaker_failures, reset_seconds=config.breaker_reset_seconds)
        self._slots = asyncio.Semaphore(config.max_concurrency)
        self._tracer = tracer
        self._on_use = on_use

    def timeout_seconds(self, deadline: Deadline) -> float:
        return min(self.config.timeout_seconds, deadline.remaining_seconds())

    @asynccontextmanager
    async def call(self, operation: str, route: str, deadline: Deadline) -> AsyncIterator[CallFacts]:
        """Wait for a slot, then time, trace and judge what happens inside. Raises `EndpointError` when the breaker
        is open, and `TimeoutError` when the deadline passes while waiting."""
        async with deadline.timeout():
            await self._slots.acquire()
        try:
            if not self.breaker.allows():
                raise EndpointError(f"The endpoint {self.name!r} failed too often; it is left alone.", retryable=False)
            async with self._observed(operation, route) as facts:
                yield facts
        finally:
            self._slots.release()

    @asynccontextmanager
    async def _observed(self, operation: str, route: str) -> AsyncIterator[CallFacts]:
        facts = CallFacts(model=self.config.model or self.config.serving_endpoint or self.name)
        started = time.perf_counter()
        error_code: str | None = None
        span = self._start_span(operation, facts.model)
        try:
            yield facts
            self.breaker.succeeded()
        except EndpointError as error:
            error_code = str(error.http_status or "unreachable")
            # A request the endpoint will never take says nothing about its health.
            if error.retryable:
                self.breaker.failed()
            else:
                self.breaker.succeeded()
            raise
        except BaseException:
            error_code = "cancelled"
            self.breaker.abandoned()
            raise
        finally:
            self._end_span(span, facts, error_code)
            self._note(facts, route, (time.perf_counter() - started) * 1_000, error_code)

    def _start_span(self, operation: str, model: str) -> Span:
        """Named and attributed by the GenAI client span conventions."""
        attributes = {
            "gen_ai.operation.name": operation,
            "gen_ai.provider.name": "databricks" if self.config.serving_endpoint else "openai",
            "gen_ai.request.model": model,
            "lakemesh.endpoint": self.name,
        }
        return self._tracer.start_span(f"{operation} {model}", kind=SpanKind.CLIENT, attributes=attributes)

    def _end_span(self, span: Span, facts: CallFacts, error_code: str | None) -> None:
        span.set_attribute("gen_ai.response.model", facts.model)
        span.set_attribute("gen_ai.usage.input_tokens", facts.input_tokens)
        span.set_attribute("gen_ai.usage.output_tokens", facts.output_tokens)
        if facts.finish_reason:
            span.set_attribute("gen_ai.response.finish_reasons", [facts.finish_reason])
        if error_code:
            span.set_attribute("error.type", error_code)
            span.set_status(StatusCode.ERROR, error_code)
        span.end()

    def _note(self, facts: CallFacts, route: str, latency_ms: float, error_code: str | None) -> None:
        cost = facts.input_tokens * self.config.input_price + facts.output_tokens * self.config.output_price
        use = ModelUse(
            endpoint=self.name,
            model=facts.model,
            route=route,
            input_tokens=facts.input_tokens,
            output_tokens=facts.output_tokens,
            cost_usd=cost / 1e6,
            latency_ms=latency_ms,
            finish_reason=facts.finish_reason,
            error_code=error_code,
        )
        scope = current_scope()
        if scope is not None:
            scope.model_uses.append(use)
        self._on_use(use)

    def health(self) -> dict[str, Any]:
        return {"breaker": self.breaker.state}
