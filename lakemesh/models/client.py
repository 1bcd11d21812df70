"""The one way to a model: a route is asked, and an endpoint of it answers."""

import asyncio
from collections.abc import AsyncGenerator, Callable, Mapping, Sequence
from contextlib import aclosing
from dataclasses import dataclass
from typing import Any, TypeVar

from opentelemetry.trace import Tracer
from pydantic import BaseModel

from lakemesh.config.models import EndpointConfig, ModelsConfig, Priority
from lakemesh.deadline import Deadline
from lakemesh.errors import DeadlineExceeded, LakemeshError, ModelRefused, ModelUnavailable, PolicyDenied
from lakemesh.lakehouse.endpoints import EmbeddingAnswer, EndpointError, ModelEndpoints
from lakemesh.models.answers import ChatAnswer, ChatChunk, Message, read_answer
from lakemesh.models.cache import AnswerCache
from lakemesh.models.calls import Attempt, GuardedEndpoint, id_of, note_use
from lakemesh.models.embedding import Embedded, embed_all
from lakemesh.models.fallback import first_answer
from lakemesh.models.prices import PriceList
from lakemesh.models.rules import choose_route
from lakemesh.models.streaming import stream_chunks
from lakemesh.models.structured import reflect
from lakemesh.scope import ExecutionScope, ModelUse, current_deadline, current_guard, varied_route

ModelT = TypeVar("ModelT", bound=BaseModel)

DEFAULT_SECONDS = 60.0
Stream = tuple[ChatChunk, AsyncGenerator[ChatChunk]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Routing:
    """The configuration in force and what was built from it."""

    config: ModelsConfig
    endpoints: Mapping[str, GuardedEndpoint]
    caches: Mapping[str, AnswerCache]

    def endpoints_of(self, route: str) -> list[GuardedEndpoint]:
        return [self.endpoints[name] for name in self.config.routes[route].endpoints]


class ModelsChange:
    """New routes and endpoints, ready to be taken."""

    def __init__(self, client: "ModelClient", routing: Routing) -> None:
        self._client = client
        self._routing = routing

    def commit(self) -> None:
        self._client.routing = self._routing

    async def discard(self) -> None:
        """Nothing was opened."""


class ModelClient:
    """Chat, streams, structured output and embeddings over routes. Every call is bounded by the running execution's
    deadline, noted in its scope and reported to `on_use`; all of them raise `ModelUnavailable` when every endpoint
    of the route failed, `ModelRefused` when every one refuses the request and `DeadlineExceeded` when time ran out."""

    def __init__(
        self,
        config: ModelsConfig,
        *,
        endpoints: ModelEndpoints,
        tracer: Tracer,
        on_use: Callable[[ModelUse], None],
        captures: Callable[[ExecutionScope | None], bool] = lambda scope: False,
    ) -> None:
        self._endpoints = endpoints
        self._tracer = tracer
        self._on_use = on_use
        self._captures = captures
        self._prices = PriceList.shipped()
        self.routing = Routing(config=config, endpoints={}, caches={})
        self.routing = self._routing_of(config)

    async def prepare(self, config: ModelsConfig) -> ModelsChange:
        """New routes and endpoints, to be taken while running. An endpoint that did not change keeps its breaker and
        its running calls, a route's cache its answers."""
        return ModelsChange(self, self._routing_of(config))

    @property
    def embedding_dimension(self) -> int:
        return self.routing.config.embedding_dimension

    def embedding_model(self, route: str = "embeddings") -> str:
        """The model of a route's vectors, as `embed` gives it; empty for a route that is not configured."""
        if route not in self.routing.config.routes:
            return ""
        return self.routing.endpoints_of(route)[0].embedding_model

    def understands(self, route: str) -> bool:
        """Whether a model stands behind the route: it is configured, and no local stand-in answers in its place."""
        return route in self.routing.config.routes and not self.is_stand_in(route)

    def has_route(self, route: str) -> bool:
        """Whether configuration has it."""
        return route in self.routing.config.routes

    def is_stand_in(self, route: str) -> bool:
        """Whether a local stand-in answers in place of the route's model: one that understands nothing."""
        return route in self.routing.config.routes and self.routing.endpoints_of(route)[0].endpoint.stand_in is not None

    async def chat(
        self,
        messages: Sequence[Message],
        *,
        route: str = "quality",
        priority: Priority = "normal",
        tools: Sequence[Mapping[str, Any]] | None = None,
        **parameters: Any,
    ) -> ChatAnswer:
        """One answer. `tools` are OpenAI's, and so are `parameters`: `response_format`, `tool_choice`, `temperature`,
        `max_tokens` and others the endpoint knows; the route's settings stand where the call has none."""
        deadline = current_deadline(DEFAULT_SECONDS)
        route = self._choose(route, messages, tools, priority, deadline)
        endpoints = permitted(self.routing.endpoints_of(route), route)
        request = self._request(route, messages, tools, parameters)
        cache = self.routing.caches.get(route)
        key = (
            cache.key([route, *(f"{one.name} {one.config.model_name}" for one in endpoints)], request)
            if cache is not None
            else None
        )
        if cache is not None and key is not None and (kept := cache.get(key)) is not None:
            note_use(
                ModelUse(endpoint=kept.endpoint, model=kept.model, route=route, cached=True, finish_reason="cached"),
                self._on_use,
            )
            return kept
        answer = await self._ask(endpoints, route, request, deadline)
        if cache is not None and key is not None:
            cache.put(key, answer)
        return answer

    async def chat_many(
        self, prompts: Sequence[Sequence[Message]], *, concurrency: int = 8, **arguments: Any
    ) -> list[ChatAnswer | LakemeshError]:
        """An outcome for each of many conversations, in order: its answer, or the error `chat` raised for it. At most
        `concurrency` are asked at once, and endpoints serve callers in turn, so that a long list keeps nobody out.
        `arguments` are those of `chat`."""
        places = iter(range(len(prompts)))
        outcomes: list[ChatAnswer | LakemeshError | None] = [None] * len(prompts)

        async def work() -> None:
            for place in places:
                try:
                    outcomes[place] = await self.chat(prompts[place], **arguments)
                except LakemeshError as error:
                    outcomes[place] = error

        async with asyncio.TaskGroup() as group:
            for _ in range(min(concurrency, len(prompts))):
                group.create_task(work())
        return [outcome for outcome in outcomes if outcome is not None]

    async def stream(
        self,
        messages: Sequence[Message],
        *,
        route: str = "quality",
        priority: Priority = "normal",
        tools: Sequence[Mapping[str, Any]] | None = None,
        **parameters: Any,
    ) -> AsyncGenerator[ChatChunk]:
        """The answer piece by piece. Until the first piece this retries and falls back like `chat`; a stream that
        breaks later raises `ModelUnavailable`, since what was said cannot be taken back. Whoever leaves early closes
        the iterator (`contextlib.aclosing`), which ends the call."""
        deadline = current_deadline(DEFAULT_SECONDS)
        route = self._choose(route, messages, tools, priority, deadline)
        endpoints = permitted(self.routing.endpoints_of(route), route)
        request = self._request(route, messages, tools, parameters)
        request["stream_options"] = {"include_usage": True}

        async def ask(attempt: Attempt) -> Stream:
            chunks = stream_chunks(attempt, request)
            try:
                return await anext(chunks), chunks
            except StopAsyncIteration:
                raise EndpointError("The endpoint's stream was empty.", retryable=True) from None

        async def dispose(stream: Stream) -> None:
            await stream[1].aclose()

        first, rest = await first_answer(
            endpoints,
            ask,
            route=route,
            config=self.routing.config.routes[route],
            deadline=deadline,
            dispose=dispose,
        )
        async with aclosing(rest):
            yield first
            try:
                async for chunk in rest:
                    yield chunk
            except TimeoutError:
                raise DeadlineExceeded("The model did not finish before the deadline.") from None
            except EndpointError as error:
                raise ModelUnavailable(f"The model broke off ({error.detail}); try again.") from None

    async def structured(self, messages: Sequence[Message], *, output: type[ModelT], **arguments: Any) -> ModelT:
        """An answer of the given model. What does not fit it is given back to the model with the fault, up to
        `reflection_rounds` times; then `ModelUnavailable` is raised. `arguments` are those of `chat`."""

        async def ask(conversation: Sequence[Message], response_format: Mapping[str, Any]) -> str:
            answer = await self.chat(conversation, response_format=response_format, **arguments)
            if answer.finish_reason == "content_filter":
                raise ModelRefused("The model's rules kept it from answering.", reason="content_filter")
            return answer.text

        return await reflect(messages, output, ask, rounds=self.routing.config.reflection_rounds)

    async def embed(self, texts: Sequence[str], *, route: str = "embeddings", model: str | None = None) -> Embedded:
        """One vector per text, in order, and the model they are of. The route's first endpoint decides on the model,
        and only endpoints of the same one stand in for it; `model` asks for another, which any configured endpoint may
        have (`ModelUnavailable` when none has). Texts go in requests of the endpoint's size. Raises
        `ModelRefused` with the `positions` of texts that the endpoint does not take."""
        deadline = current_deadline(DEFAULT_SECONDS)
        self._choose(route, (), None, "normal", deadline)
        routing = self.routing
        asked = permitted(routing.endpoints_of(route) if model is None else list(routing.endpoints.values()), route)
        wanted = asked[0].embedding_model if model is None else model
        same = [endpoint for endpoint in asked if endpoint.embedding_model == wanted]
        if not same:
            raise ModelUnavailable(f"No endpoint has the embedding model {wanted!r:.100} any longer.")

        async def embed_batch(batch: Sequence[str]) -> EmbeddingAnswer:
            async def ask(attempt: Attempt) -> EmbeddingAnswer:
                guarded = attempt.endpoint
                async with guarded.call("embeddings", attempt, {"input": batch}) as facts:
                    answer = await guarded.endpoint.embed(batch, timeout_seconds=guarded.timeout_seconds)
                    facts.model, facts.input_tokens = answer.model or facts.model, answer.input_tokens
                    return answer

            config = routing.config.routes[route]
            return await first_answer(same, ask, route=route, config=config, deadline=deadline)

        vectors = await embed_all(
            texts,
            embed_batch,
            batch=min(guarded.config.embedding_batch for guarded in same),
            batch_bytes=min(guarded.config.embedding_batch_bytes for guarded in same),
        )
        return Embedded(vectors=vectors, model=wanted)

    async def predict(self, columns: Sequence[str], rows: Sequence[Sequence[float]], *, route: str) -> list[float]:
        """One number for each row, of a model of one's own behind the route. Retries and falls back as `chat` does."""
        deadline, route = current_deadline(DEFAULT_SECONDS), varied_route(route)
        self._choose(route, (), None, "normal", deadline)

        async def ask(attempt: Attempt) -> list[float]:
            guarded = attempt.endpoint
            async with guarded.call("predict", attempt):
                return await guarded.endpoint.predict(columns, rows, timeout_seconds=guarded.timeout_seconds)

        endpoints = permitted(self.routing.endpoints_of(route), route)
        config = self.routing.config.routes[route]
        return await first_answer(endpoints, ask, route=route, config=config, deadline=deadline)

    def health(self) -> dict[str, Any]:
        """The circuit of each endpoint; degraded when one is not closed."""
        states = {name: guarded.breaker.state for name, guarded in self.routing.endpoints.items()}
        away = sorted(name for name, state in states.items() if state != "closed")
        return {"endpoints": states, "degraded": f"endpoints away: {', '.join(away)}" if away else None}

    async def _ask(
        self, endpoints: Sequence[GuardedEndpoint], route: str, request: Mapping[str, Any], deadline: Deadline
    ) -> ChatAnswer:
        async def ask(attempt: Attempt) -> ChatAnswer:
            guarded = attempt.endpoint
            async with guarded.call("chat", attempt, request) as facts:
                body = await guarded.endpoint.chat(request, timeout_seconds=guarded.timeout_seconds)
                answer = read_answer(body, guarded.name)
                facts.model, facts.finish_reason = answer.model, answer.finish_reason
                facts.input_tokens, facts.output_tokens = answer.input_tokens, answer.output_tokens
                facts.response_id, facts.answer = id_of(body), answer.message
                return answer

        config = self.routing.config.routes[route]
        return await first_answer(endpoints, ask, route=route, config=config, deadline=deadline)

    def _choose(
        self,
        route: str,
        messages: Sequence[Message],
        tools: Sequence[Mapping[str, Any]] | None,
        priority: Priority,
        deadline: Deadline,
    ) -> str:
        config, route = self.routing.config, varied_route(route)
        return choose_route(config, route, messages=messages, tools=tools, priority=priority, deadline=deadline)

    def _request(
        self,
        route: str,
        messages: Sequence[Message],
        tools: Sequence[Mapping[str, Any]] | None,
        parameters: Mapping[str, Any],
    ) -> dict[str, Any]:
        """The chat completions body; the route's settings stand where the call has none."""
        config = self.routing.config.routes[route]
        defaults = {"temperature": config.temperature, "max_tokens": config.max_tokens}
        given = {key: value for key, value in parameters.items() if value is not None}
        optional = {**defaults, "tools": list(tools) if tools else None, **given}
        return {"messages": list(messages), **{key: value for key, value in optional.items() if value is not None}}

    def _routing_of(self, config: ModelsConfig) -> Routing:
        endpoints = {name: self._guarded(name, endpoint, config) for name, endpoint in config.endpoints.items()}
        kept = self.routing.caches
        caches = {
            name: kept[name] if name in kept and kept[name].config == route.cache else AnswerCache(route.cache)
            for name, route in config.routes.items()
            if route.cache is not None
        }
        return Routing(config=config, endpoints=endpoints, caches=caches)

    def _guarded(self, name: str, config: EndpointConfig, models: ModelsConfig) -> GuardedEndpoint:
        known = self.routing.endpoints.get(name)
        price = self._prices.price_of(config, models)
        if known is not None and known.config == config and known.listed_price == price:
            return known
        if config.serving_endpoint is not None:
            endpoint = self._endpoints.serving_endpoint(config.serving_endpoint)
        else:
            assert config.base_url is not None
            assert config.model is not None
            endpoint = self._endpoints.external_endpoint(config.base_url, model=config.model, api_key=config.api_key)
        return GuardedEndpoint(
            name,
            config,
            endpoint=endpoint,
            tracer=self._tracer,
            on_use=self._on_use,
            captures=self._captures,
            price=price,
        )


def permitted(endpoints: Sequence[GuardedEndpoint], route: str) -> Sequence[GuardedEndpoint]:
    """Those that the policies let the running execution ask. Raises `PolicyDenied` when there is none."""
    guard = current_guard()
    if guard is None:
        return endpoints
    allowed = [one for one in endpoints if guard.allows("model", *one.policy_names)]
    if not allowed:
        raise PolicyDenied(
            f"No policy lets you use a model of the route {route!r:.100}; ask those who keep the policies.", rule=None
        )
    return allowed
