"""Model endpoints of the laptop: the offline model for every serving endpoint, any server for the others."""

from lakemesh.lakehouse.endpoints import ModelEndpoint


class LocalEndpoints:
    """Endpoints are made when they are first asked for; what they need is imported then."""

    def __init__(self) -> None:
        self._external: dict[tuple[str, str, str | None], ModelEndpoint] = {}

    def serving_endpoint(self, name: str) -> ModelEndpoint:
        from lakemesh.lakehouse.embedded.offline_model import OfflineEndpoint

        return OfflineEndpoint(name)

    def external_endpoint(self, base_url: str, *, model: str, api_key: str | None) -> ModelEndpoint:
        from lakemesh.lakehouse.openai_endpoint import OpenAIEndpoint

        key = (base_url, model, api_key)
        if key not in self._external:
            self._external[key] = OpenAIEndpoint(base_url, model=model, api_key=api_key)
        return self._external[key]

    async def close(self) -> None:
        for endpoint in self._external.values():
            await endpoint.close()
        self._external.clear()
