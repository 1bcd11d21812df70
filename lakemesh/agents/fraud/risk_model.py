"""The trained risk model: numbers in a JSON file, in the models volume. No code is in it and none is run to read it."""

import asyncio
import re
from collections.abc import Sequence
from functools import cached_property
from typing import Annotated, Any, Literal, Self

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from lakemesh.agents.fraud.features import FEATURES, Numbers
from lakemesh.agents.fraud.schemas import Contribution
from lakemesh.agents.fraud.trees import Trees, sigmoid
from lakemesh.errors import NotFound, Unavailable
from lakemesh.lakehouse.volumes import Volumes

MODELS_VOLUME = "/Volumes/main/agents/models"
FILE_NAME = re.compile(r"risk_v([1-9][0-9]{0,8})\.json")
TRAIN_FIRST = "There is no trained risk model yet; run 'lakemesh train-risk'."
RANK_END = 1e-5
"""Keeps the logarithm of the highest rank finite."""

Kind = Literal["logistic_regression", "random_forest", "gradient_boosting", "ensemble"]
LINEAR_KEYS = ("means", "scales", "weights", "intercept")


class Linear(BaseModel):
    """A logistic regression's weights on standardised features."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    type: Literal["linear"] = "linear"
    means: list[float]
    scales: list[float]
    weights: list[float]
    intercept: float

    @property
    def features(self) -> int:
        return len(self.weights)

    @model_validator(mode="after")
    def _one_of_each(self) -> Self:
        if not len(self.means) == len(self.scales) == len(self.weights):
            raise ValueError("means, scales and weights need one number per feature")
        return self

    def scores(self, rows: Numbers) -> Numbers:
        return sigmoid(self._terms(rows).sum(axis=1) + self.intercept)

    def explained(self, row: Numbers) -> tuple[float, Numbers]:
        terms = self._terms(row)
        return float(sigmoid(terms.sum() + self.intercept)), terms

    def _terms(self, rows: Numbers) -> Numbers:
        terms: Numbers = np.array(self.weights) * (rows - np.array(self.means)) / np.array(self.scales)
        return terms


class Ranks(BaseModel):
    """How many of the scores of unseen transactions, as a share, a member's score reaches, between knots."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    scores: list[float]
    shares: list[float]

    @cached_property
    def _arrays(self) -> tuple[Numbers, Numbers]:
        return np.array(self.scores), np.array(self.shares)

    def of(self, scores: Any) -> Any:
        return np.interp(scores, *self._arrays)


class Blend(BaseModel):
    """Members' ranks averaged, as negative logarithms of the share that ranks higher, so that it counts how rare a
    transaction is and not where in the crowd it stands; made a probability again with log-odds that rise by `slope`."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    ranks: list[Ranks]
    slope: float = Field(gt=0)
    intercept: float

    def probability(self, scores: Sequence[Any]) -> Any:
        """Of the members' scores, each one number or an array."""
        return sigmoid(self.slope * self.rarity(scores) + self.intercept)

    def rarity(self, scores: Sequence[Any]) -> Any:
        rarities = [-np.log(1.0 + RANK_END - ranks.of(one)) for ranks, one in zip(self.ranks, scores, strict=True)]
        return sum(rarities) / len(rarities)


class RiskModel(BaseModel):
    """One member alone, or several with a `blend`. `metrics` are of the test week, `compared` those of every kind on
    the validation week that `kind` was chosen on; `trained_on` says what was learned from."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    version: int
    kind: Kind = "logistic_regression"
    features: list[str]
    members: list[Annotated[Linear | Trees, Field(discriminator="type")]] = Field(min_length=1)
    blend: Blend | None = None
    metrics: dict[str, float]
    compared: dict[str, dict[str, float]] = {}
    trained_on: dict[str, Any]

    @model_validator(mode="before")
    @classmethod
    def _of_former_versions(cls, content: Any) -> Any:
        """Files from before there were several kinds hold one regression at their top."""
        if isinstance(content, dict) and "weights" in content:
            linear = {"type": "linear", **{key: content[key] for key in LINEAR_KEYS if key in content}}
            return {**{key: value for key, value in content.items() if key not in LINEAR_KEYS}, "members": [linear]}
        return content

    @model_validator(mode="after")
    def _fits_the_features(self) -> Self:
        if tuple(self.features) != FEATURES or any(one.features > len(FEATURES) for one in self.members):
            raise ValueError("the model was trained on other features")
        ranks = len(self.blend.ranks) if self.blend else 1
        if ranks != len(self.members):
            raise ValueError("a blend needs the ranks of every member, and several members a blend")
        return self

    def scores(self, rows: Numbers) -> Numbers:
        """Probabilities of fraud, one for each row of features."""
        found = [one.scores(rows) for one in self.members]
        return found[0] if self.blend is None else np.asarray(self.blend.probability(found))

    def explained(self, values: Sequence[float]) -> tuple[float, list[float]]:
        """The probability of one transaction, and what each feature adds to its log-odds, on the members' average."""
        row = np.array(values)
        found = [one.explained(row) for one in self.members]
        added: Numbers = np.mean([contributions for _, contributions in found], axis=0)
        score = found[0][0] if self.blend is None else float(self.blend.probability([one for one, _ in found]))
        return score, added.tolist()


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
        model = await asyncio.to_thread(RiskModel.model_validate_json, content)
    except ValidationError as error:
        raise Unavailable(f"The risk model in version {wanted} cannot be used: {error.errors()[0]['msg']}.") from None
    if model.version != wanted:
        raise Unavailable(f"The file of the risk model in version {wanted} holds version {model.version}.")
    return model


def model_path(version: int) -> str:
    return f"{MODELS_VOLUME}/risk_v{version}.json"
