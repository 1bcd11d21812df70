"""What models cost: US dollars for a million tokens, from configuration or from the table that comes along."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.resources import files
from typing import Any

from lakemesh.config.models import EndpointConfig, ModelsConfig

TABLE = "prices.json"
"""List prices with their date and their source; discounts, caches and batches are not in them."""
MILLION = 1_000_000


@dataclass(frozen=True, slots=True)
class Price:
    """US dollars for a million tokens."""

    input: float
    output: float

    def usd(self, input_tokens: int, output_tokens: int) -> float:
        return (input_tokens * self.input + output_tokens * self.output) / MILLION


FREE = Price(0.0, 0.0)


class PriceList:
    """Prices by the name of a model or of a serving endpoint."""

    def __init__(self, table: Mapping[str, Any]) -> None:
        self.date: str = table["date"]
        self._models: Mapping[str, tuple[float, float]] = table["models"]

    @classmethod
    def shipped(cls) -> "PriceList":
        return cls(json.loads(files("lakemesh.models").joinpath(TABLE).read_text(encoding="utf-8")))

    def price_of(self, endpoint: EndpointConfig, config: ModelsConfig) -> Price | None:
        """The endpoint's own price, else its model's in configuration, else the table's, else the default price of
        configuration; None when nobody knows."""
        if endpoint.input_price is not None or endpoint.output_price is not None:
            return Price(endpoint.input_price or 0.0, endpoint.output_price or 0.0)
        name = endpoint.model_name
        if (given := config.prices.get(name, None)) is not None:
            return Price(given.input, given.output)
        if (listed := self._models.get(name.lower().removeprefix("databricks/"))) is not None:
            return Price(*listed)
        default = config.default_price
        return None if default is None else Price(default.input, default.output)
