"""One call on one endpoint: its place among the others, its breaker, its span and its row."""

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any, Literal
from urllib.parse import urlsplit

from opentelemetry.trace import Span, SpanKind, StatusCode, Tracer
from pydantic_core import to_json

from lakemesh.breaker import CircuitBreaker
from lakemesh.config.models import EndpointConfig
from lakemesh.deadline import Deadline
from lakemesh.errors import PriceUnknown
from lakemesh.lakehouse.endpoints import OFFLINE_MODEL, EndpointError, ModelEndpoint
from lakemesh.models.prices import FREE, Price
from lakemesh.models.slots import FairSlots
from lakemesh.scope import Charge, ExecutionScope, ModelUse, current_meter, current_scope
from lakemesh.telemetry.content import message_attributes

TOO_MANY_REQUESTS = 429
MAX_ID_CHARACTERS = 256
BYTES_PER_TOKEN = 3
FAIR_SHARE = 0.25
"""The part of its own time limit that an endpoint must have had before it counts against it that it was given up."""

NO_MODEL = "models: there is no model here; the offline stand-in repeats what it is given"

GivenUp = Literal["deadline_exceeded", "hedged"]
"""Why an endpoint was not waited for any longer: time ran out, or the next endpoint was quicker."""

REQUEST_ATTRIBUTES = {
    "temperature": "gen_ai.request.temperature",
    "max_tokens": "gen_ai.request.max_tokens",
    "stream": "gen_ai.request.stream",
}


@dataclass(slots=True)
class CallFacts:
    """What a call fills in about its answer while it runs."""

    model: str
    input_tokens: int = 0
    output_tokens: int = 0
    finish_reason: str | None = None
    response_id: str | None = None
    first_piece_at: float | None = None
    """When the first piece of a streamed answer came, by `time.monotonic`."""
    asked: bool = False
    """Whether the endpoint was asked at all."""
    answer: Mapping[str, Any] | None = None
    said: list[str] = field(default_factory=list)
    calls: dict[int, dict[str, str]] = field(default_factory=dict)
    """The pieces of a streamed answer, where content is kept."""
    keeps_content: bool = False
    assumed: "Estimate | None" = None
    """What it may use at most, where budgets count; taken for what it used when nobody says that."""


@dataclass(frozen=True, slots=True)
class Estimate:
    """The tokens a call may use at most."""

    input_tokens: int
    output_tokens: int


@dataclass(slots=True, eq=False)
class Attempt:
    """One endpoint's part in answering one request, its retries included. `given_up` is set when it is cancelled for
    its slowness, as opposed to a caller that left."""

    endpoint: "GuardedEndpoint"
    route: str
    deadline: Deadline
    given_up: GivenUp | None = None


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
        captures: Callable[[ExecutionScope | None], bool] = lambda scope: False,
        price: Price | None = None,
    ) -> None:
        self.name = name
        self.config = config
        self.endpoint = endpoint
        self.breaker = CircuitBreaker(failures=config.breaker_failures, reset_seconds=config.breaker_reset_seconds)
        self._slots = FairSlots(config.max_concurrency)
        self._tracer = tracer
        self._on_use = on_use
        self._captures = captures
        self.listed_price = price
        self.price = FREE if endpoint.stand_in is not None else price
        self._provider = "databricks" if config.serving_endpoint else "openai"
        self._address = urlsplit(config.base_url or "").hostname

    @property
    def timeout_seconds(self) -> float:
        """The endpoint's own limit. The deadline of the request is watched where endpoints are chosen, so that it is
        always known whose time was up."""
        return self.config.timeout_seconds

    @property
    def policy_names(self) -> tuple[str, ...]:
        """What rules may call it: the model, the endpoint's name in configuration, and where it runs."""
        region = (f"region:{self.config.region}",) if self.config.region else ()
        return (self.config.model_name, self.name, *region)

    @property
    def embedding_model(self) -> str:
        """What to keep beside a vector: vectors of different models do not compare."""
        return self.endpoint.stand_in or self.config.model_name

    @asynccontextmanager
    async def call(
        self, operation: str, attempt: Attempt, request: Mapping[str, Any] | None = None
    ) -> AsyncIterator[CallFacts]:
        """Wait for a slot, then time, trace and judge what happens inside. Raises `EndpointError` when the circuit
        is open, or when no slot comes free within the endpoint's time limit, and `BudgetExceeded` and `PriceUnknown`
        where a budget is about it."""
        await self._take_slot()
        facts = CallFacts(model=self.config.model_name)
        charge: Charge | None = None
        try:
            charge = await self._reserve(operation, request or {}, facts)
            if not self.breaker.allows():
                raise self._circuit_open()
            async with self._observed(operation, attempt, request or {}, facts):
                yield facts
        finally:
            self._slots.release()
            if charge is not None:
                charge.settle(self._used(facts))

    async def _reserve(self, operation: str, request: Mapping[str, Any], facts: CallFacts) -> Charge | None:
        """What the call may use at most, set aside in the budgets that are about it."""
        meter = current_meter()
        if meter is None:
            return None
        facts.assumed = estimate_of(operation, request, meter.output_tokens)
        if operation != "predict" and self.price is None and meter.counts_money:
            raise PriceUnknown(
                f"There is a budget of money for this, and nobody knows the price of {self.config.model_name!r:.100}; "
                "its operator gives it in models.prices."
            )
        return await meter.reserve(
            {
                "steps": 1,
                "tokens": facts.assumed.input_tokens + facts.assumed.output_tokens,
                "usd": self._cost(facts.assumed.input_tokens, facts.assumed.output_tokens),
            }
        )

    def _used(self, facts: CallFacts) -> dict[str, float]:
        tokens = facts.input_tokens + facts.output_tokens
        cost = self._cost(facts.input_tokens, facts.output_tokens)
        return {"steps": float(facts.asked), "tokens": tokens, "usd": cost}

    def _cost(self, input_tokens: int, output_tokens: int) -> float:
        """In US dollars; 0 where nobody knows."""
        return self.price.usd(input_tokens, output_tokens) if self.price is not None else 0.0

    async def _take_slot(self) -> None:
        if self.breaker.state == "open":
            raise self._circuit_open()
        scope = current_scope()
        try:
            async with asyncio.timeout(self.timeout_seconds):
                await self._slots.acquire(scope.identity.user if scope is not None else "")
        except TimeoutError:
            detail = f"All {self.config.max_concurrency} slots of the endpoint {self.name!r} are taken."
            raise EndpointError(detail, retryable=False) from None

    def _circuit_open(self) -> EndpointError:
        detail = f"The endpoint {self.name!r} failed too often; its circuit is open."
        return EndpointError(detail, retryable=False)

    @asynccontextmanager
    async def _observed(
        self, operation: str, attempt: Attempt, request: Mapping[str, Any], facts: CallFacts
    ) -> AsyncIterator[None]:
        facts.keeps_content = operation == "chat" and self._captures(current_scope())
        facts.asked = True
        started = time.monotonic()
        error_code: str | None = None
        span = self._start_span(operation, facts.model, request)
        try:
            yield
            self.breaker.succeeded()
            assume_use(facts, None)
        except BaseException as error:
            assume_use(facts, error)
            error_code = error_type(error, attempt)
            self._judge(error, attempt, time.monotonic() - started)
            raise
        finally:
            if facts.keeps_content:
                span.set_attributes(message_attributes(request, facts.answer or streamed(facts), facts.finish_reason))
            self._end_span(span, facts, started, error_code)
            self._note(facts, attempt.route, operation, started, error_code)

    def _judge(self, error: BaseException, attempt: Attempt, seconds: float) -> None:
        """What a failed call says of the endpoint's health. Nothing, when it is told to slow down (429), when the
        caller left, or when it was given up sooner than it may be held to: a caller with a short deadline must not be
        able to take an endpoint away from the others."""
        too_slow = (attempt.given_up is not None or isinstance(error, TimeoutError)) and (
            seconds >= FAIR_SHARE * self.config.timeout_seconds
        )
        failed = isinstance(error, EndpointError) and error.http_status != TOO_MANY_REQUESTS
        if isinstance(error, EndpointError) and not error.retryable:
            self.breaker.succeeded()
        elif too_slow or failed:
            self.breaker.failed()
        else:
            self.breaker.abandoned()

    def _start_span(self, operation: str, model: str, request: Mapping[str, Any]) -> Span:
        """Named and attributed by the GenAI client span conventions."""
        attributes = {
            "gen_ai.operation.name": operation,
            "gen_ai.provider.name": self._provider,
            "gen_ai.request.model": model,
            "lakemesh.endpoint": self.name,
            **{name: request[key] for key, name in REQUEST_ATTRIBUTES.items() if key in request},
        }
        if self._address is not None:
            attributes["server.address"] = self._address
        return self._tracer.start_span(f"{operation} {model}", kind=SpanKind.CLIENT, attributes=attributes)

    def _end_span(self, span: Span, facts: CallFacts, started: float, error_code: str | None) -> None:
        if facts.response_id:
            span.set_attribute("gen_ai.response.id", facts.response_id)
        if facts.first_piece_at is not None:
            span.set_attribute("gen_ai.response.time_to_first_chunk", facts.first_piece_at - started)
        span.set_attribute("gen_ai.response.model", facts.model)
        span.set_attribute("gen_ai.usage.input_tokens", facts.input_tokens)
        span.set_attribute("gen_ai.usage.output_tokens", facts.output_tokens)
        if facts.finish_reason:
            span.set_attribute("gen_ai.response.finish_reasons", [facts.finish_reason])
        if error_code:
            span.set_attribute("error.type", error_code)
            span.set_status(StatusCode.ERROR, error_code)
        span.end()

    def _note(self, facts: CallFacts, route: str, operation: str, started: float, error_code: str | None) -> None:
        use = ModelUse(
            endpoint=self.name,
            model=facts.model,
            route=route,
            input_tokens=facts.input_tokens,
            output_tokens=facts.output_tokens,
            cost_usd=self._cost(facts.input_tokens, facts.output_tokens),
            latency_ms=(time.monotonic() - started) * 1_000,
            first_token_ms=None if facts.first_piece_at is None else (facts.first_piece_at - started) * 1_000,
            operation=operation,
            provider=self._provider,
            finish_reason=facts.finish_reason,
            error_code=error_code,
        )
        note_use(use, self._on_use)


def estimate_of(operation: str, request: Mapping[str, Any], output_tokens: int) -> Estimate:
    """The most tokens a call may be expected to use: a token for three bytes of what is sent (English has about four),
    and what the answer is limited to, or `output_tokens` where it is not."""
    if operation == "predict":
        return Estimate(0, 0)
    sent = len(to_json(request, fallback=str, inf_nan_mode="null")) // BYTES_PER_TOKEN + 1
    if operation == "embeddings":
        return Estimate(sent, 0)
    limit = request.get("max_completion_tokens") or request.get("max_tokens")
    answers = request.get("n")
    return Estimate(sent, (limit if isinstance(limit, int) else output_tokens) * (answers if answers else 1))


def assume_use(facts: CallFacts, error: BaseException | None) -> None:
    """Where the endpoint did not say what the call used, and may have done its work, the most that it may have used:
    who leaves before the end does not get it for nothing. An endpoint that refused did none."""
    if facts.assumed is None or facts.input_tokens or facts.output_tokens:
        return
    if isinstance(error, EndpointError) and facts.first_piece_at is None:
        return
    facts.input_tokens, facts.output_tokens = facts.assumed.input_tokens, facts.assumed.output_tokens


def streamed(facts: CallFacts) -> dict[str, Any] | None:
    """The message that was streamed, as far as it came."""
    if not facts.said:
        return None
    calls = [{"id": call["id"], "function": call} for _, call in sorted(facts.calls.items())]
    return {"role": "assistant", "content": "".join(facts.said), "tool_calls": calls}


def id_of(body: Mapping[str, Any]) -> str:
    """The id an endpoint gave its answer."""
    return str(body.get("id") or "")[:MAX_ID_CHARACTERS]


def note_use(use: ModelUse, on_use: Callable[[ModelUse], None]) -> None:
    """Note a call in the scope of the running execution, and report it."""
    scope = current_scope()
    if scope is not None:
        scope.model_uses.append(use)
        if use.model == OFFLINE_MODEL and NO_MODEL not in scope.degraded:
            scope.degraded.append(NO_MODEL)
    on_use(use)


def error_type(error: BaseException, attempt: Attempt) -> str:
    """`error.type` of the semantic conventions: the HTTP status when one came, or a word that says why none did."""
    if isinstance(error, EndpointError):
        return str(error.http_status or "unreachable")
    if isinstance(error, TimeoutError) or attempt.deadline.expired:
        return "deadline_exceeded"
    return attempt.given_up or "cancelled"
