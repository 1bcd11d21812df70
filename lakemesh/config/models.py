"""Model endpoints, and the routes that agents name instead of endpoints."""

from typing import Literal, Self

from pydantic import Field, model_validator

from lakemesh.config.base import Section


class EndpointConfig(Section):
    """Where calls go: a serving endpoint of the workspace (`serving_endpoint`), or any OpenAI-compatible server
    (`base_url` and `model`). Prices are US dollars for a million tokens; without one, the model's own counts
    (`models.prices`, or the table that comes along). Beside a serving endpoint, `model` declares which embedding model
    it serves: endpoints that declare the same one may stand in for each other."""

    serving_endpoint: str | None = None
    base_url: str | None = Field(default=None, pattern=r"^https?://")
    model: str | None = None
    api_key: str | None = Field(default=None, repr=False)
    max_concurrency: int = Field(default=16, ge=1)
    timeout_seconds: float = Field(default=30.0, gt=0)
    embedding_batch: int = Field(default=96, ge=1, le=2_048, description="texts in one request for embeddings")
    embedding_batch_bytes: int = Field(default=512 * 1024, ge=1_024, description="bytes of text in one such request")
    breaker_failures: int = Field(default=5, ge=1)
    breaker_reset_seconds: float = Field(default=15.0, gt=0)
    region: str | None = Field(default=None, description="where it runs, for policies: region:NAME")
    input_price: float | None = Field(default=None, ge=0)
    output_price: float | None = Field(default=None, ge=0)

    @property
    def model_name(self) -> str:
        """The model as configuration knows it."""
        return self.model or self.serving_endpoint or ""

    @model_validator(mode="after")
    def _one_address(self) -> Self:
        if (self.serving_endpoint is None) == (self.base_url is None):
            raise ValueError("give either serving_endpoint or base_url")
        if self.base_url is not None and self.model is None:
            raise ValueError("base_url needs model")
        return self


class CacheConfig(Section):
    """Answers kept in this process for requests that are the same to the last character. A user is only given what
    the same user was given, unless `shared`."""

    lifetime_seconds: float = Field(default=300.0, gt=0, le=86_400)
    max_bytes: int = Field(default=16 * 1024 * 1024, ge=1_024)
    shared: bool = Field(default=False, description="answers given to one user may be given to another")


Priority = Literal["low", "normal", "high"]


class RuleConfig(Section):
    """Sends a request for this route to another one when every condition that is given holds. Conditions look at the
    length of the messages, whether there are tools, the caller's priority, the time left, and what the execution has
    cost so far."""

    route: str
    characters_above: int | None = Field(default=None, ge=0)
    characters_below: int | None = Field(default=None, ge=1)
    tools: bool | None = None
    priority: Priority | None = None
    seconds_left_below: float | None = Field(default=None, gt=0)
    spent_usd_above: float | None = Field(default=None, ge=0)


class RouteConfig(Section):
    """`endpoints` in the order they are tried: the first is the one meant, the rest are its fallbacks. They share the
    time of a request: the next is asked when the one before has failed, or has had its share of the time that is left
    (all endpoints equally), or after `hedge_after_seconds` when that is sooner; the first answer is taken."""

    endpoints: list[str] = Field(min_length=1)
    temperature: float | None = Field(default=None, ge=0, le=2)
    max_tokens: int | None = Field(default=None, ge=1)
    attempts: int = Field(default=3, ge=1, le=10, description="tries on one endpoint before the next is asked")
    hedge_after_seconds: float | None = Field(
        default=None, gt=0, description="ask the next endpoint too after this wait"
    )
    cache: CacheConfig | None = None
    rules: list[RuleConfig] = Field(default=[], description="the first that holds names the route to take instead")


class PriceConfig(Section):
    """US dollars for a million tokens."""

    input: float = Field(ge=0)
    output: float = Field(default=0.0, ge=0)


class ModelsConfig(Section):
    """Agents that ask no model need none of this."""

    endpoints: dict[str, EndpointConfig] = {}
    routes: dict[str, RouteConfig] = {}
    embedding_dimension: int = Field(default=384, ge=1)
    reflection_rounds: int = Field(default=2, ge=0, le=5)
    prices: dict[str, PriceConfig] = Field(
        default={}, description="by model or serving endpoint, before the table that comes along"
    )
    default_price: PriceConfig | None = Field(
        default=None, description="of models nobody knows the price of; without it, budgets of money refuse them"
    )

    @model_validator(mode="after")
    def _routes_name_endpoints(self) -> Self:
        for route, config in self.routes.items():
            for endpoint in config.endpoints:
                if endpoint not in self.endpoints:
                    raise ValueError(f"route {route!r} names an endpoint {endpoint!r} that is not configured")
            for rule in config.rules:
                if rule.route not in self.routes:
                    raise ValueError(f"a rule of route {route!r} names a route {rule.route!r} that is not configured")
        return self
