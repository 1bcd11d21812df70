"""The trained risk model: a logistic regression as numbers in a JSON file, in the models volume."""

import math
import re
from collections.abc import Sequence
from typing import Any, Self

from pydantic import BaseModel, ConfigDict, ValidationError, model_validator

from lakemesh.agents.fraud.features import FEATURES
from lakemesh.agents.fraud.schemas import Contribution
from lakemesh.errors import NotFound, Unavailable
from lakemesh.lakehouse.volumes import Volumes

MODELS_VOLUME = "/Volumes/main/agents/models"
FILE_NAME = re.compile(r"risk_v([1-9][0-9]{0,8})\.json")
TRAIN_FIRST = "There is no trained risk model yet; run 'lakemesh train-risk'."


class RiskModel(BaseModel):
    """Weights on standardised features. `metrics` and `trained_on` say what it was measured on and learned from."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    version: int
    features: list[str]
    means: list[float]
    scales: list[float]
    weights: list[float]
    intercept: float
    metrics: dict[str, float]
    trained_on: dict[str, Any]

    @model_validator(mode="after")
    def _fits_the_features(self) -> Self:
        if tuple(self.features) != FEATURES:
            raise ValueError("the model was trained on other features")
        if not len(self.means) == len(self.scales) == len(self.weights) == len(FEATURES):
            raise ValueError("means, scales and weights need one number per feature")
        return self

    def contributions(self, values: Sequence[float]) -> list[float]:
        """What each feature adds to the log-odds."""
        return [
            weight * (value - mean) / scale
            for weight, value, mean, scale in zip(self.weights, values, self.means, self.scales, strict=True)
        ]

    def probability(self, contributions: Sequence[float]) -> float:
        log_odds = self.intercept + sum(contributions)
        return 1.0 / (1.0 + math.exp(-max(-700.0, min(700.0, log_odds))))


def strongest(values: Sequence[float], contributions: Sequence[float], count: int) -> list[Contribution]:
    """The features that spoke for fraud most, strongest first."""
    ranked = sorted(range(len(FEATURES)), key=lambda place: -contributions[place])[:count]
    return [
        Contribution(feature=FEATURES[place], value=values[place], contribution=contributions[place])
        for place in ranked
        if contributions[place] > 0
    ]


async def model_versions(volumes: Volumes) -> list[int]:
    """The versions in the models volume, in order."""
    try:
        entries = await volumes.list_directory(MODELS_VOLUME)
    except NotFound:
        return []
    return sorted(int(match[1]) for entry in entries if (match := FILE_NAME.fullmatch(entry.name)))


async def load_model(volumes: Volumes, version: int | None) -> RiskModel:
    """The version asked for, or the newest. Raises `Unavailable` when there is none or its file is broken."""
    versions = await model_versions(volumes)
    if not versions:
        raise Unavailable(TRAIN_FIRST)
    wanted = version or versions[-1]
    if wanted not in versions:
        raise Unavailable(f"There is no risk model in version {wanted}; there are {versions}.")
    content = await volumes.read(model_path(wanted))
    try:
        model = RiskModel.model_validate_json(content)
    except ValidationError as error:
        raise Unavailable(f"The risk model in version {wanted} cannot be used: {error.errors()[0]['msg']}.") from None
    if model.version != wanted:
        raise Unavailable(f"The file of the risk model in version {wanted} holds version {model.version}.")
    return model


def model_path(version: int) -> str:
    return f"{MODELS_VOLUME}/risk_v{version}.json"
