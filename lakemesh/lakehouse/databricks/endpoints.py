"""Model Serving, through its OpenAI-compatible routes."""

from typing import TYPE_CHECKING

from cachetools import TTLCache

from lakemesh.deadline import Deadline
from lakemesh.lakehouse.databricks.calls import SdkCalls
from lakemesh.lakehouse.endpoints import ModelEndpoint
from lakemesh.lakehouse.openai_endpoint import OpenAIEndpoint

if TYPE_CHECKING:
    from databricks.sdk import WorkspaceClient

TOKEN_SECONDS = 10.0
TOKEN_KEPT_SECONDS = 20.0


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
            self._serving[name] = OpenAIEndpoint(base_url, model=name, api_key=self._token)
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

    async def _token(self) -> str:
        token = self._known_token.get(None)
        if token is None:
            headers = await self._calls.run(self._config.authenticate, deadline=Deadline.after(TOKEN_SECONDS))
            token = self._known_token[None] = headers["Authorization"].removeprefix("Bearer ")
        return token
