"""Rows of tables shown to somebody, without what may not be written down."""

from collections.abc import Sequence
from typing import Any

from pydantic_core import from_json, to_jsonable_python

from lakemesh.config.telemetry import RedactionConfig
from lakemesh.telemetry.redaction import Redactor

MAX_CHARACTERS = 1_000


def redacted_rows(rows: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """JSON-ready, without card numbers, e-mail addresses, tokens and what is named as a secret; long texts are cut."""
    config = RedactionConfig(patterns=["card_number", "email", "token"])
    redactor = Redactor(config, limit=MAX_CHARACTERS)
    plain = [to_jsonable_python(row, inf_nan_mode="null", fallback=str) for row in rows]
    return [from_json(text) for text in redactor.json_column(plain)]
