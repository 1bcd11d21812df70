"""Record ids, and text that must not be written, for any input."""

import json
import uuid

from hypothesis import given
from hypothesis import strategies as st

from lakemesh.config.telemetry import RedactionConfig
from lakemesh.telemetry.redaction import Redactor, passes_luhn
from lakemesh.telemetry.rows import time_ordered_ids


@given(st.lists(st.integers(min_value=0, max_value=(1 << 48) * 1_000_000 - 1), min_size=1, max_size=50))
def test_ids_are_valid_distinct_and_carry_their_time(times: list[int]) -> None:
    ids = [uuid.UUID(text) for text in time_ordered_ids(times)]
    assert len(set(ids)) == len(times)
    for identity, at in zip(ids, times, strict=True):
        assert (identity.version, identity.variant) == (7, uuid.RFC_4122)
        assert identity.int >> 80 == at // 1_000_000


def card(digits: list[int]) -> str:
    """The 15 digits with the check digit that makes them a card number."""
    number = "".join(map(str, digits))
    return next(number + check for check in "0123456789" if passes_luhn(number + check))


@given(st.lists(st.integers(0, 9), min_size=15, max_size=15).map(card), st.sampled_from(["", " ", "-"]))
def test_card_numbers_are_taken_out_however_they_are_grouped(number: str, separator: str) -> None:
    written = separator.join(number[start : start + 4] for start in range(0, 16, 4))
    redactor = Redactor(RedactionConfig(), limit=1_000)
    assert redactor.text(f"card {written}, thanks") == "card [card number], thanks"
    assert json.loads(redactor.json({"a": [written]})) == {"a": ["[card number]"]}


json_values = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=8,
)


@given(st.dictionaries(st.text(max_size=8), json_values, max_size=5))
def test_attributes_without_secrets_are_written_as_they_are(attributes: dict[str, object]) -> None:
    redactor = Redactor(RedactionConfig(attributes=[], patterns=[]), limit=10_000)
    assert json.loads(redactor.json(attributes)) == attributes
