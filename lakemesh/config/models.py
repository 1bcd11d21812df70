"""Model endpoints, and the routes that agents name instead of endpoints."""

from typing import Self

from pydantic import Field, model_validator

from lakemesh.config.base import Section


class EndpointConfig(Section):
    """Where calls go: a serving endpoint of the workspace (`serving_endpoint`), or any OpenAI-compatible server
    (`base_url` and `model`). Prices are US dollars for a million tokens and only feed the cost estimate."""

    serving_endpoint: str | None = None
    base_url: str | None = Field(default=None, pattern=r"^https?://")
    model: str | None = None
    api_key: str | None = Field(default=None, repr=False)
    max_concurrency: int = Field(default=16, ge=1)
    timeout_seconds: float = Field(default=30.0, gt=0)
    breaker_failures: int = Field(default=5, ge=1)
    breaker_reset_seconds: float = Field(default=15.0, gt=0)
    input_price: float = Field(default=0.0, ge=0)
    output_price: float = Field(default=0.0, ge=0)

    @model_validator(mode="after")
    def _one_address(self) -> Self:
        if (self.serving_endpoint is None) == (self.base_url is None):
            raise ValueError("give either serving_endpoint or base_url")
        if self.base_url is not None and self.model is None:
            raise ValueError("base_url needs model")
        return self


class RouteConfig(Section):
    """`endpoints` in the order they are tried: the first is the one meant, the rest are its fallbacks."""

    endpoints: list[str] = Field(min_length=1)
    temperature: float | None = Field(default=None, ge=0, le=2)
    max_tokens: int | None = Field(default=None, ge=1)
    attempts: int = Field(default=3, ge=1, le=10, description="tries on one endpoint before the next is asked")


class ModelsConfig(Section):
    endpoints: dict[str, EndpointConfig]
    routes: dict[str, RouteConfig]
    embedding_dimension: int = Field(default=384, ge=1)
    reflection_rounds: int = Field(default=2, ge=0, le=5)

    @model_validator(mode="after")
    def _routes_name_endpoints(self) -> Self:
        for route, config in self.routes.items():
            for endpoint in config.endpoints:
                if endpoint not in self.endpoints:
                    raise ValueError(f"route {route!r} names an endpoint {endpoint!r} that is not configured")
        return self
