"""Model endpoints: one call to one endpoint, OpenAI's wire format in and out.

Routing, retries, breakers and limits are the business of `lakemesh.models`; a build only knows how to reach an
endpoint. Requests and answers are the JSON bodies of OpenAI chat completions and embeddings.
"""

import math
from collections.abc import AsyncGenerator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, Protocol

from lakemesh.errors import LakemeshError

Refusal = Literal["context_length", "content_filter", "invalid_request"]
"""Why an endpoint will never take a request: it is too long for the model, against its rules, or not well formed."""

OFFLINE_MODEL = "offline"
"""What the embedded workspace's stand-in calls itself in what it answers."""

REFUSED_STATUS = frozenset({400, 413, 422})
NO_ROWS = "This endpoint takes no rows: a model of one's own has to be served by Model Serving."
MAX_TOKENS = 2**31 - 1
"""More than any model counts to: what is above is a broken endpoint's, and must not break the row it is kept in."""


class EndpointError(LakemeshError):
    """One failed call. `http_status` is None when no answer came; `retryable` says whether the same call may
    succeed later on the same endpoint (429, 5xx, lost connections), as opposed to a request it will never take.
    `refusal` is set when the request itself is at fault."""

    code, title, status = "endpoint_error", "Model endpoint error", 502

    def __init__(
        self,
        detail: str,
        *,
        http_status: int | None = None,
        retryable: bool,
        retry_after_seconds: float | None = None,
        refusal: Refusal | None = None,
    ) -> None:
        super().__init__(detail, retry_after_seconds=retry_after_seconds)
        self.http_status = http_status
        self.retryable = retryable
        self.refusal = refusal


@dataclass(frozen=True, slots=True, kw_only=True)
class EmbeddingAnswer:
    """One vector per input, in order. `model` is what the endpoint calls itself; None when it does not say."""

    vectors: list[list[float]]
    model: str | None = None
    input_tokens: int = 0


class ModelEndpoint(Protocol):
    """Every call is bounded by `timeout_seconds`, which covers the whole answer (for a stream: each wait for
    the next chunk), and raises `EndpointError` when it fails.

    `stand_in` names the local stand-in that answers in place of the model asked for, and understands nothing; None
    where the model is what configuration says."""

    stand_in: str | None

    async def chat(self, request: Mapping[str, Any], *, timeout_seconds: float) -> dict[str, Any]:
        """A `chat.completion` for a chat completions request (`messages`, `tools`, `response_format`, ...)."""
        ...

    def stream_chat(self, request: Mapping[str, Any], *, timeout_seconds: float) -> AsyncGenerator[dict[str, Any]]:
        """The `chat.completion.chunk`s of the same request, as they come. Closing it ends the call."""
        ...

    async def embed(self, inputs: Sequence[str], *, timeout_seconds: float) -> EmbeddingAnswer: ...

    async def predict(
        self, columns: Sequence[str], rows: Sequence[Sequence[float]], *, timeout_seconds: float
    ) -> list[float]:
        """One number for each row, of a served model of one's own, such as one that MLflow registered."""
        ...

    async def close(self) -> None:
        """Let go of its connections."""
        ...


class ModelEndpoints(Protocol):
    """How a build reaches endpoints."""

    def serving_endpoint(self, name: str) -> ModelEndpoint:
        """The workspace's serving endpoint of that name. The embedded workspace answers for every name with its
        offline model, which calls itself `offline` in what it answers."""
        ...

    def external_endpoint(self, base_url: str, *, model: str, api_key: str | None) -> ModelEndpoint:
        """Any OpenAI-compatible server."""
        ...

    async def close(self) -> None: ...


def predictions_of(body: Any, rows: int) -> list[float]:
    """Of an answer in MLflow's form. Raises `EndpointError` when they are not one finite number for each row."""
    found = body.get("predictions") if isinstance(body, Mapping) else None
    if not isinstance(found, list) or len(found) != rows or not all(is_finite(one) for one in found):
        raise EndpointError(f"The endpoint gave no number for each of {rows} rows.", retryable=False)
    return [float(one) for one in found]


def is_finite(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def bounded_tokens(count: object) -> int:
    """A count of tokens as the endpoint gave it, between zero and `MAX_TOKENS`. Raises `ValueError` or `TypeError` for
    what is no number."""
    number = float(count or 0)  # type: ignore[arg-type]
    if math.isnan(number):
        raise ValueError("a count of tokens is a number")
    return int(min(max(0.0, number), MAX_TOKENS))
