"""Served models of one's own. The emulator has no model registry: a version of the risk model that an endpoint names is
taken from the models volume, where `lakemesh train-risk` puts the same file that it registers."""

import asyncio
from typing import Any

import numpy as np

from lakemesh.agents.fraud.features import FEATURES
from lakemesh.agents.fraud.risk_model import RiskModel, load_model
from lakemesh.emulator.errors import ApiError
from lakemesh.errors import Unavailable
from lakemesh.lakehouse.volumes import Volumes

KEPT = 8


class RegisteredModels:
    """Versions are read when they are first asked for; they never change."""

    def __init__(self, volumes: Volumes) -> None:
        self._volumes = volumes
        self._known: dict[int, RiskModel] = {}

    async def predict(self, endpoint: dict[str, Any], body: dict[str, Any]) -> list[float]:
        """Raises `ApiError` as Model Serving does: 400 for what is no frame of the model's columns, 404 for a version
        that is not there."""
        entities = (endpoint.get("config") or {}).get("served_entities") or [{}]
        model = await self._version(str(entities[0].get("entity_version") or ""))
        scores = await asyncio.to_thread(model.scores, rows_of(body))
        return [float(score) for score in scores]

    async def _version(self, text: str) -> RiskModel:
        if not text.isdecimal():
            raise ApiError(400, "The endpoint serves no version of a registered model; it takes no rows.")
        version = int(text)
        if version not in self._known:
            try:
                model = await load_model(self._volumes, version)
            except Unavailable as error:
                raise ApiError(404, error.detail) from None
            while len(self._known) >= KEPT:
                del self._known[next(iter(self._known))]
            self._known[version] = model
        return self._known[version]


def rows_of(body: dict[str, Any]) -> Any:
    """The frame's rows, columns in the order of the features, whatever order they come in."""
    try:
        if "dataframe_split" in body:
            columns = list(body["dataframe_split"]["columns"])
            rows = [dict(zip(columns, row, strict=True)) for row in body["dataframe_split"]["data"]]
        else:
            rows = list(body["dataframe_records"])
        return np.array([[float(row[name]) for name in FEATURES] for row in rows], dtype=np.float64).reshape(
            len(rows), len(FEATURES)
        )
    except (KeyError, TypeError, ValueError) as error:
        raise ApiError(400, f"The rows do not fit the model's signature: {error}") from None
