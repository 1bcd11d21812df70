"""Model Serving, through its OpenAI-compatible routes."""

import asyncio
import time
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping, Sequence
from contextlib import aclosing
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from cachetools import TTLCache

from lakemesh.deadline import Deadline
from lakemesh.lakehouse.databricks.calls import SdkCalls
from lakemesh.lakehouse.endpoints import EmbeddingAnswer, EndpointError, ModelEndpoint, predictions_of
from lakemesh.lakehouse.openai_endpoint import OpenAIEndpoint, translate

if TYPE_CHECKING:
    from databricks.sdk import WorkspaceClient

TOKEN_SECONDS = 10.0
TOKEN_KEPT_SECONDS = 20.0

Token = Callable[[], Awaitable[str]]
Renew = Callable[[float], Awaitable[None]]
"""Fetches a new token, unless one was fetched since the given moment of the monotonic clock."""


class ServedModel(OpenAIEndpoint):
    """A serving endpoint; a token that it refuses is renewed, and the call made once more."""

    def __init__(self, base_url: str, name: str, token: Token, renew: Renew) -> None:
        super().__init__(base_url, model=name, api_key=token)
        self._renew = renew

    async def chat(self, request: Mapping[str, Any], *, timeout_seconds: float) -> dict[str, Any]:
        started = time.monotonic()
        try:
            return await super().chat(request, timeout_seconds=timeout_seconds)
        except EndpointError as error:
            await self._renew_if_refused(error, started)
        return await super().chat(request, timeout_seconds=timeout_seconds)

    async def stream_chat(
        self, request: Mapping[str, Any], *, timeout_seconds: float
    ) -> AsyncGenerator[dict[str, Any]]:
        started = time.monotonic()
        try:
            async with aclosing(super().stream_chat(request, timeout_seconds=timeout_seconds)) as chunks:
                async for chunk in chunks:
                    yield chunk
            return
        except EndpointError as error:  # a refusal comes before the first chunk
            await self._renew_if_refused(error, started)
        async with aclosing(super().stream_chat(request, timeout_seconds=timeout_seconds)) as chunks:
            async for chunk in chunks:
                yield chunk

    async def embed(self, inputs: Sequence[str], *, timeout_seconds: float) -> EmbeddingAnswer:
        started = time.monotonic()
        try:
            return await super().embed(inputs, timeout_seconds=timeout_seconds)
        except EndpointError as error:
            await self._renew_if_refused(error, started)
        return await super().embed(inputs, timeout_seconds=timeout_seconds)

    async def predict(
        self, columns: Sequence[str], rows: Sequence[Sequence[float]], *, timeout_seconds: float
    ) -> list[float]:
        started = time.monotonic()
        try:
            return await self._predict(columns, rows, timeout_seconds)
        except EndpointError as error:
            await self._renew_if_refused(error, started)
        return await self._predict(columns, rows, timeout_seconds)

    async def _predict(
        self, columns: Sequence[str], rows: Sequence[Sequence[float]], timeout_seconds: float
    ) -> list[float]:
        """In MLflow's form (`dataframe_split`)."""
        body = {"dataframe_split": {"columns": list(columns), "data": [list(row) for row in rows]}}
        try:
            async with asyncio.timeout(timeout_seconds):
                client = await self._open()
                path = f"/{quote(self._model, safe='')}/invocations"
                answer: object = await client.post(path, cast_to=object, body=body)
        except Exception as error:
            raise translate(error) from error
        return predictions_of(answer, len(rows))

    async def _renew_if_refused(self, error: EndpointError, started: float) -> None:
        """Raises the error unless it is a refusal."""
        if error.http_status != 401:
            raise error
        await self._renew(started)


class ServingEndpoints:
    """Endpoints are made when they are first asked for. A token lives for an hour and the SDK renews it 40 s before its
    end, so one that was asked for less than `TOKEN_KEPT_SECONDS` ago is good."""

    def __init__(self, client: "WorkspaceClient", calls: SdkCalls) -> None:
        self._config = client.config
        self._calls = calls
        self._known_token: TTLCache[None, str] = TTLCache(1, TOKEN_KEPT_SECONDS)
        self._serving: dict[str, ModelEndpoint] = {}
        self._external: dict[tuple[str, str, str | None], ModelEndpoint] = {}

    def serving_endpoint(self, name: str) -> ModelEndpoint:
        if name not in self._serving:
            base_url = f"{self._config.host}/serving-endpoints"
            self._serving[name] = ServedModel(base_url, name, self._token, self._renew_token)
        return self._serving[name]

    def external_endpoint(self, base_url: str, *, model: str, api_key: str | None) -> ModelEndpoint:
        key = (base_url, model, api_key)
        if key not in self._external:
            self._external[key] = OpenAIEndpoint(base_url, model=model, api_key=api_key)
        return self._external[key]

    async def close(self) -> None:
        for endpoint in (*self._serving.values(), *self._external.values()):
            await endpoint.close()
        self._serving.clear()
        self._external.clear()

    async def _renew_token(self, known_since: float) -> None:
        self._known_token.clear()
        await self._calls.run(lambda: self._calls.renew_token(known_since), deadline=Deadline.after(TOKEN_SECONDS))

    async def _token(self) -> str:
        token = self._known_token.get(None)
        if token is None:
            headers = await self._calls.run(self._config.authenticate, deadline=Deadline.after(TOKEN_SECONDS))
            token = self._known_token[None] = headers["Authorization"].removeprefix("Bearer ")
        return token
