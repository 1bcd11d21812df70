"""The one way to a model: a route is asked, and an endpoint of it answers."""

from collections.abc import AsyncGenerator, Callable, Mapping, Sequence
from contextlib import aclosing
from typing import Any, TypeVar

from opentelemetry.trace import Tracer
from pydantic import BaseModel

from lakemesh.config.models import EndpointConfig, ModelsConfig, RouteConfig
from lakemesh.errors import DeadlineExceeded, InvalidRequest, ModelUnavailable
from lakemesh.lakehouse.endpoints import EndpointError, ModelEndpoints
from lakemesh.models.answers import ChatAnswer, ChatChunk, Message, read_answer
from lakemesh.models.calls import GuardedEndpoint
from lakemesh.models.retry import first_answer
from lakemesh.models.streaming import stream_chunks
from lakemesh.models.structured import reflect
from lakemesh.scope import ModelUse, current_deadline

ModelT = TypeVar("ModelT", bound=BaseModel)

DEFAULT_SECONDS = 60.0


class ModelClient:
    """Chat, streams, structured output and embeddings over routes. Every call is bounded by the running execution's
    deadline, noted in its scope and reported to `on_use`; all of them raise `ModelUnavailable` when every endpoint
    of the route failed and `DeadlineExceeded` when time ran out."""

    def __init__(
        self,
        config: ModelsConfig,
        *,
        endpoints: ModelEndpoints,
        tracer: Tracer,
        on_use: Callable[[ModelUse], None],
    ) -> None:
        self._endpoints = endpoints
        self._tracer = tracer
        self._on_use = on_use
        self._guarded: dict[str, GuardedEndpoint] = {}
        self.configure(config)

    def configure(self, config: ModelsConfig) -> None:
        """Take new routes and endpoints while running. An endpoint that did not change keeps its breaker and its
        running calls."""
        self._config = config
        self._guarded = {
            name: known
            if (known := self._guarded.get(name)) is not None and known.config == endpoint
            else self._guard(name, endpoint)
            for name, endpoint in config.endpoints.items()
        }

    @property
    def embedding_dimension(self) -> int:
        return self._config.embedding_dimension

    def embedding_model(self, route: str) -> str:
        """What to store beside a vector: vectors of different models do not compare."""
        endpoint = self._config.endpoints[self._route(route).endpoints[0]]
        return endpoint.serving_endpoint or endpoint.model or ""

    async def chat(
        self,
        messages: Sequence[Message],
        *,
        route: str = "quality",
        tools: Sequence[Mapping[str, Any]] | None = None,
        response_format: Mapping[str, Any] | None = None,
        temperature: float | None = None,
        max_tokens: int | None = None,
    ) -> ChatAnswer:
        """One answer. `tools` and `response_format` are OpenAI's."""
        config = self._route(route)
        request = chat_request(messages, config, tools, response_format, temperature, max_tokens)
        deadline = current_deadline(DEFAULT_SECONDS)

        async def attempt(guarded: GuardedEndpoint) -> ChatAnswer:
            async with guarded.call("chat", route, deadline, request) as facts:
                body = await guarded.endpoint.chat(request, timeout_seconds=guarded.timeout_seconds(deadline))
                answer = read_answer(body, guarded.name)
                facts.model, facts.finish_reason = answer.model, answer.finish_reason
                facts.input_tokens, facts.output_tokens = answer.input_tokens, answer.output_tokens
                return answer

        return await first_answer(self._of(config), attempt, attempts=config.attempts, deadline=deadline)

    async def stream(
        self,
        messages: Sequence[Message],
        *,
        route: str = "quality",
        tools: Sequence[Mapping[str, Any]] | None = None,
        temperature: float | None = None,
        max_tokens: int | None = None,
    ) -> AsyncGenerator[ChatChunk]:
        """The answer piece by piece. Until the first piece this retries and falls back like `chat`; a stream that
        breaks later raises `ModelUnavailable`, since what was said cannot be taken back. Whoever leaves early closes
        the iterator (`contextlib.aclosing`), which ends the call."""
        config = self._route(route)
        request = chat_request(messages, config, tools, None, temperature, max_tokens)
        request["stream_options"] = {"include_usage": True}
        deadline = current_deadline(DEFAULT_SECONDS)

        async def attempt(guarded: GuardedEndpoint) -> tuple[ChatChunk, AsyncGenerator[ChatChunk]]:
            chunks = stream_chunks(guarded, request, route, deadline)
            try:
                return await anext(chunks), chunks
            except StopAsyncIteration:
                raise EndpointError("The endpoint's stream was empty.", retryable=True) from None

        first, rest = await first_answer(self._of(config), attempt, attempts=config.attempts, deadline=deadline)
        async with aclosing(rest):
            yield first
            try:
                async for chunk in rest:
                    yield chunk
            except (EndpointError, TimeoutError) as error:
                if deadline.expired or isinstance(error, TimeoutError):
                    raise DeadlineExceeded("The model did not finish before the deadline.") from None
                raise ModelUnavailable(f"The model broke off ({error.detail}); try again.") from None

    async def structured(
        self,
        messages: Sequence[Message],
        *,
        output: type[ModelT],
        route: str = "quality",
        temperature: float | None = None,
        max_tokens: int | None = None,
    ) -> ModelT:
        """An answer of the given model. What does not fit it is given back to the model with the fault, up to
        `reflection_rounds` times; then `ModelUnavailable` is raised."""

        async def ask(conversation: Sequence[Message], response_format: Mapping[str, Any]) -> str:
            answer = await self.chat(
                conversation,
                route=route,
                response_format=response_format,
                temperature=temperature,
                max_tokens=max_tokens,
            )
            return answer.text

        return await reflect(messages, output, ask, rounds=self._config.reflection_rounds)

    async def embed(self, texts: Sequence[str], *, route: str = "embeddings") -> list[list[float]]:
        """One vector per text, in order."""
        config = self._route(route)
        deadline = current_deadline(DEFAULT_SECONDS)

        async def attempt(guarded: GuardedEndpoint) -> list[list[float]]:
            async with guarded.call("embeddings", route, deadline):
                return await guarded.endpoint.embed(texts, timeout_seconds=guarded.timeout_seconds(deadline))

        return await first_answer(self._of(config), attempt, attempts=config.attempts, deadline=deadline)

    def health(self) -> dict[str, Any]:
        """The breaker of each endpoint; degraded when one is not closed."""
        states = {name: guarded.breaker.state for name, guarded in self._guarded.items()}
        away = sorted(name for name, state in states.items() if state != "closed")
        return {"endpoints": states, "degraded": f"endpoints away: {', '.join(away)}" if away else None}

    def _route(self, name: str) -> RouteConfig:
        route = self._config.routes.get(name)
        if route is None:
            raise InvalidRequest(f"There is no model route {name!r:.60}; there are {', '.join(self._config.routes)}.")
        return route

    def _of(self, route: RouteConfig) -> list[GuardedEndpoint]:
        return [self._guarded[name] for name in route.endpoints]

    def _guard(self, name: str, config: EndpointConfig) -> GuardedEndpoint:
        if config.serving_endpoint is not None:
            endpoint = self._endpoints.serving_endpoint(config.serving_endpoint)
        else:
            assert config.base_url is not None
            assert config.model is not None
            endpoint = self._endpoints.external_endpoint(config.base_url, model=config.model, api_key=config.api_key)
        return GuardedEndpoint(name, config, endpoint=endpoint, tracer=self._tracer, on_use=self._on_use)


def chat_request(
    messages: Sequence[Message],
    route: RouteConfig,
    tools: Sequence[Mapping[str, Any]] | None,
    response_format: Mapping[str, Any] | None,
    temperature: float | None,
    max_tokens: int | None,
) -> dict[str, Any]:
    """The chat completions body; the route's settings stand where the call has none."""
    optional = {
        "tools": list(tools) if tools else None,
        "response_format": response_format,
        "temperature": route.temperature if temperature is None else temperature,
        "max_tokens": route.max_tokens if max_tokens is None else max_tokens,
    }
    return {"messages": list(messages), **{key: value for key, value in optional.items() if value is not None}}
