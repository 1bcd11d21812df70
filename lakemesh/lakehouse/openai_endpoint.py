"""Any OpenAI-compatible server as a model endpoint, through the official SDK."""

import asyncio
import email.utils
import importlib
import math
import time
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from lakemesh.lakehouse.endpoints import (
    NO_ROWS,
    REFUSED_STATUS,
    EmbeddingAnswer,
    EndpointError,
    Refusal,
    bounded_tokens,
)

if TYPE_CHECKING:
    from openai import AsyncOpenAI

RETRYABLE_STATUS = frozenset({408, 409, 425, 429, 500, 502, 503, 504})
MAX_RETRY_AFTER_SECONDS = 86_400.0
TOO_LONG = ("context_length", "context length", "context window", "too long", "too many tokens", "string_above_max")
MAX_ERROR_CHARACTERS = 10_000
UNWELCOME = ("content_filter", "content_policy", "content management policy", "content filter")
ApiKey = str | Callable[[], Awaitable[str]] | None


class OpenAIEndpoint:
    """`base_url` as OpenAI has it (what `/chat/completions` is appended to). `api_key` may be a coroutine function,
    asked for a token before each request. The SDK's own retries are off: `lakemesh.models` knows the deadline."""

    stand_in: str | None = None

    def __init__(self, base_url: str, *, model: str, api_key: ApiKey, headers: Mapping[str, str] | None = None) -> None:
        self._base_url = base_url
        self._model = model
        self._api_key = api_key
        self._headers = dict(headers or {})
        self._client: AsyncOpenAI | None = None

    async def chat(self, request: Mapping[str, Any], *, timeout_seconds: float) -> dict[str, Any]:
        try:
            async with asyncio.timeout(timeout_seconds):
                client = await self._open()
                answer = await client.chat.completions.create(**self._body(request))
            body: dict[str, Any] = answer.model_dump(mode="json", warnings=False)
        except Exception as error:
            raise translate(error) from error
        if not body.get("choices"):
            raise EndpointError("The endpoint answered without a choice.", retryable=True)
        return body

    async def stream_chat(
        self, request: Mapping[str, Any], *, timeout_seconds: float
    ) -> AsyncGenerator[dict[str, Any]]:
        finished = False
        try:
            async with asyncio.timeout(timeout_seconds):
                client = await self._open()
                stream = await client.chat.completions.create(**self._body(request), stream=True)
            async with stream:
                chunks = aiter(stream)
                while True:
                    async with asyncio.timeout(timeout_seconds):
                        chunk = await anext(chunks, None)
                    if chunk is None:
                        break
                    body = chunk.model_dump(mode="json", warnings=False)
                    finished = finished or any(choice.get("finish_reason") for choice in body.get("choices") or ())
                    yield body
        except Exception as error:
            raise translate(error) from error
        if not finished:
            raise EndpointError("The stream ended before the answer did.", retryable=True)

    async def embed(self, inputs: Sequence[str], *, timeout_seconds: float) -> EmbeddingAnswer:
        try:
            async with asyncio.timeout(timeout_seconds):
                client = await self._open()
                answer = await client.embeddings.create(model=self._model, input=list(inputs), encoding_format="float")
            vectors = [item.embedding for item in sorted(answer.data, key=lambda item: item.index)]
            tokens = bounded_tokens(answer.usage.prompt_tokens if answer.usage else 0)
        except Exception as error:
            raise translate(error) from error
        if len(vectors) != len(inputs):
            raise EndpointError(f"{len(inputs)} texts got {len(vectors)} vectors.", retryable=False)
        return EmbeddingAnswer(vectors=vectors, model=answer.model or None, input_tokens=tokens)

    async def predict(
        self, columns: Sequence[str], rows: Sequence[Sequence[float]], *, timeout_seconds: float
    ) -> list[float]:
        raise EndpointError(NO_ROWS, http_status=501, retryable=False)

    async def close(self) -> None:
        if self._client is not None:
            await self._client.close()
            self._client = None

    def _body(self, request: Mapping[str, Any]) -> dict[str, Any]:
        return {**request, "model": self._model}

    async def _open(self) -> "AsyncOpenAI":
        if self._client is None:
            # Importing the SDK takes a third of a second, and the loop has others to serve.
            await asyncio.to_thread(importlib.import_module, "openai")
        if self._client is None:
            from openai import AsyncOpenAI

            self._client = AsyncOpenAI(
                base_url=self._base_url,
                api_key=self._api_key or "none",
                max_retries=0,
                default_headers=self._headers,
            )
        return self._client


def translate(error: Exception) -> Exception:
    """The SDK's exceptions, and whatever broken bytes make its parser raise, as `EndpointError`."""
    import openai

    if isinstance(error, EndpointError):
        return error
    if isinstance(error, TimeoutError | openai.APITimeoutError):
        return EndpointError("The endpoint did not answer in time.", retryable=True)
    if isinstance(error, openai.APIStatusError):
        return EndpointError(
            f"The endpoint answered {error.status_code}.",
            http_status=error.status_code,
            retryable=error.status_code in RETRYABLE_STATUS,
            retry_after_seconds=retry_after(error.response.headers.get("retry-after")),
            refusal=refusal_of(error.status_code, error.response.text[:MAX_ERROR_CHARACTERS]),
        )
    if isinstance(error, openai.APIConnectionError):
        return EndpointError("The endpoint cannot be reached.", retryable=True)
    return EndpointError(f"The endpoint's answer cannot be read: {type(error).__name__}.", retryable=True)


def refusal_of(status: int, text: str) -> Refusal | None:
    """Why a request was refused, from the error's body: OpenAI's `code` where there is one, and the words that Model
    Serving and others use in its place. None when the request is not what is at fault."""
    if status not in REFUSED_STATUS:
        return None
    told = text.lower()
    if status == 413 or any(words in told for words in TOO_LONG):
        return "context_length"
    return "content_filter" if any(words in told for words in UNWELCOME) else "invalid_request"


def retry_after(value: str | None) -> float | None:
    """Seconds to wait, a day at most, from a number of seconds or an HTTP date (RFC 9110 section 10.2.3). None for
    what is neither, infinity and NaN among them."""
    if value is None:
        return None
    try:
        seconds = float(value)
    except ValueError:
        try:
            seconds = email.utils.parsedate_to_datetime(value).timestamp() - time.time()
        except (ValueError, OverflowError):
            return None
    return min(max(0.0, seconds), MAX_RETRY_AFTER_SECONDS) if math.isfinite(seconds) else None
