"""Model endpoints: one call to one endpoint, OpenAI's wire format in and out.

Routing, retries, breakers and limits are the business of `lakemesh.models`; a build only knows how to reach an
endpoint. Requests and answers are the JSON bodies of OpenAI chat completions and embeddings.
"""

from collections.abc import AsyncGenerator, Mapping, Sequence
from typing import Any, Protocol

from lakemesh.errors import LakemeshError


class EndpointError(LakemeshError):
    """One failed call. `http_status` is None when no answer came; `retryable` says whether the same call may
    succeed later on the same endpoint (429, 5xx, lost connections), as opposed to a request it will never take."""

    code, title, status = "endpoint_error", "Model endpoint error", 502

    def __init__(
        self,
        detail: str,
        *,
        http_status: int | None = None,
        retryable: bool,
        retry_after_seconds: float | None = None,
    ) -> None:
        super().__init__(detail, retry_after_seconds=retry_after_seconds)
        self.http_status = http_status
        self.retryable = retryable


class ModelEndpoint(Protocol):
    """Every call is bounded by `timeout_seconds`, which covers the whole answer (for a stream: each wait for
    the next chunk), and raises `EndpointError` when it fails."""

    async def chat(self, request: Mapping[str, Any], *, timeout_seconds: float) -> dict[str, Any]:
        """A `chat.completion` for a chat completions request (`messages`, `tools`, `response_format`, ...)."""
        ...

    def stream_chat(self, request: Mapping[str, Any], *, timeout_seconds: float) -> AsyncGenerator[dict[str, Any]]:
        """The `chat.completion.chunk`s of the same request, as they come. Closing it ends the call."""
        ...

    async def embed(self, inputs: Sequence[str], *, timeout_seconds: float) -> list[list[float]]:
        """One vector per input, in order."""
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
