"""What may not be written down, in whatever it is wrapped."""

import json
import re
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lakemesh import redaction
from lakemesh.config.telemetry import RedactionConfig
from lakemesh.redaction import PATTERNS, TextRedactor, without_input_values
from lakemesh.telemetry.redaction import Redactor

CARD = "4111111111111111"
SECRETS = [
    CARD,
    "4111 1111 1111 1111",
    "4111  1111  1111  1111",
    "4111.1111.1111.1111",
    "3782-822463-10005",
    "4 1 1 1 1 1 1 1 1 1 1 1 1 1 1 1",
    "github_pat_11ABCDEFG0abcdefghijkl_mnop",
    "gho_abcdefghijklmnopqrstuv",
    "AKIAIOSFODNN7EXAMPLE",
    "dapi0123456789abcdef0123456789abcdef",
    "dose0123456789abcdef0123456789abcdef",
    "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxIn0.c2lnbmF0dXJl",
    "BEARER abcdefghijklmnop",
    "Basic dXNlcjpwYXNzd29yZA==",
    "postgres://svc:HUNTER2PW@db.internal/x",
    "password=HUNTER2PW",
    '"api_key": "HUNTER2PW"',
    "Authorization: Bearer HUNTER2PWHUNTER2PW",
]
MARKS = ["1111", "111111", "10005", "abcdefghijkl", "IOSFODNN", "cdef0123", "eyJzdWI", "HUNTER2PW", "dXNlcjpw"]
HARMLESS = [
    "order 1234567890123",
    "Basic authentication failed",
    "input_tokens=12, token_count: 5",
    "trace 0123456789012345abcdef0123456789",
    "id 12345678-1234-4123-8123-123456789012",
    "at 2026-11-21 15:04:43.123456 from 192.168.100.200",
    "https://example.com/a?b=c",
]
redactor = Redactor(RedactionConfig(), limit=100_000)


def is_clean(text: str | None) -> bool:
    return text is not None and not any(mark in text for mark in MARKS)


@pytest.mark.parametrize("secret", SECRETS)
@pytest.mark.parametrize("around", ["{}", "It is {}.", "it is '{}', and", "({})", "a\n{}\nb"])
def test_secrets_are_found_in_a_sentence(secret: str, around: str) -> None:
    text = redactor.text(around.format(secret))
    assert is_clean(text), text
    assert text.endswith(around.rpartition("}")[2])
    assert text.startswith(around.partition("{")[0])


@pytest.mark.parametrize("text", HARMLESS)
def test_what_is_no_secret_stays(text: str) -> None:
    assert redactor.text(text) == text


NAMES = ["Password", "db.password", "client_secret", "X-Authorization", "page_token", "x.api_key", "APIKEY", "dsn"]


@pytest.mark.parametrize("name", NAMES)
def test_members_named_like_secrets_are_taken_out_at_any_depth(name: str) -> None:
    hidden = {name: {"inner": ["HUNTER2PW"]}, "rest": 1}
    bag = {"a": [{"b": hidden}], "as json": json.dumps(hidden), name: "HUNTER2PW"}
    assert json.loads(redactor.json(bag)) == {
        "a": [{"b": {name: "[redacted]", "rest": 1}}],
        "as json": json.dumps({name: "[redacted]", "rest": 1}, separators=(",", ":")),
        name: "[redacted]",
    }
    assert json.loads(redactor.content(json.dumps(bag)) or "")["a"][0]["b"][name] == "[redacted]"


def test_numbers_are_looked_at_and_counts_and_labels_stay() -> None:
    bag = {"card": int(CARD), "f": float(CARD), "ns": 1_750_000_000_000_000_000, "input_tokens": 12, "is_token": True}
    label = {"gen_ai.token.type": "input", "gen_ai.usage.input_tokens": 3}
    assert json.loads(redactor.json(bag | label)) == {
        **(bag | label), "card": "[card number]", "f": "[card number]",
    }  # fmt: skip


def test_what_begins_before_the_cut_is_recognized_by_what_follows_it() -> None:
    short = Redactor(RedactionConfig(), limit=20)
    for secret in SECRETS:
        for start in range(21):
            text = short.text("." * start + " " + secret + " end") or ""
            assert is_clean(text), text
    assert short.text("x" * 30) == "x" * 20 + "… (30 characters)"


def test_values_that_validation_quotes_are_taken_out() -> None:
    from pydantic import TypeAdapter, ValidationError

    with pytest.raises(ValidationError) as raised:
        TypeAdapter(int).validate_python("PATIENT-SSN 078-05-1120")
    text = without_input_values(str(raised.value))
    assert "PATIENT" not in text
    assert "input_type=str" in text


def test_text_that_is_not_unicode_is_written() -> None:
    assert json.loads(redactor.json({"a\ud800": ["\ud800", object]}))["a?"][0] == "?"


HOSTILE = st.sampled_from(
    ["-eyJ", "eyJ", "a@", "@", "11 ", "4111 ", "1.", "1-1 ", "bearer ", "basic a", "token", "password=", 'secret: "',
     "pwd: {", "://", "://a@", "sk-", "-----BEGIN PRIVATE KEY-----", '\\"dsn\\": \\"', "AKIA", "\\", '"', "'", "é"]
)  # fmt: skip


@settings(max_examples=300)
@given(st.lists(HOSTILE, max_size=30), st.sampled_from(SECRETS), st.lists(HOSTILE | st.text(max_size=5), max_size=30))
def test_no_hostile_text_around_a_secret_fails_or_shows_what_it_would_not_show_alone(
    before: list[str], secret: str, after: list[str]
) -> None:
    text = redactor.text("".join(before) + "\n|\n" + secret + "\n|\n" + "".join(after))
    assert is_clean(text), text


@given(st.recursive(st.text() | st.floats() | st.integers() | st.binary(), lambda inner: st.lists(inner, max_size=3)))
def test_any_bag_becomes_json(value: Any) -> None:
    assert "a" in json.loads(redactor.json({"a": value, "token": "x"}))


def repeats(tree: Any) -> list[tuple[str, int]]:
    """Every repetition in a parsed pattern that may give back what it took: its kind, and its upper bound."""
    from re import _constants as constants

    found = []
    for code, argument in tree:
        if code in (constants.MAX_REPEAT, constants.MIN_REPEAT):
            found.append((str(code), int(argument[1])))
        children = argument if isinstance(argument, tuple | list) else [argument]
        for child in children:
            if isinstance(child, list):
                found += [one for branch in child for one in repeats(branch)]
            elif hasattr(child, "data"):
                found += repeats(child)
    return found


@pytest.mark.parametrize("pattern", [*(p for some in PATTERNS.values() for p in some), redaction.INPUT_VALUE.pattern])
def test_no_pattern_can_try_a_text_again_and_again(pattern: str) -> None:
    """What is unbounded is possessive, so that the time a pattern takes grows with the text and not with its square."""
    from re import _parser as parser

    assert all(bound <= 256 for _, bound in repeats(parser.parse(pattern)))


def test_what_was_looked_at_is_not_looked_at_again() -> None:
    """Matches are taken from left to right, none twice: the text a search covers is never more than the text."""
    find = TextRedactor(["card_number", "email", "token"])._find
    for seed in ("-eyJ", "eyJx-", "a.b-", "a@b@", "11 ", "password ", "bearer a", "://a@"):
        ends = [0]
        for match in find(seed * 500):
            assert isinstance(match, re.Match)
            assert match.start() >= ends[-1]
            ends.append(match.end())


@pytest.mark.parametrize("secret", SECRETS)
def test_a_secret_is_found_in_the_one_bag_of_a_batch_that_has_it(secret: str) -> None:
    """Bags say the same few things: each different one is looked at once, whatever bags it is in."""
    redactor = Redactor(RedactionConfig(), limit=200)
    same = {"agent": "echo", "execution": "a1b2c3d4" * 4, "tokens": 12, "finish_reasons": ["stop"]}
    bags: list[dict[str, Any]] = [
        *({**same, "place": place} for place in range(50)),
        {**same, "said": f"it is {secret} indeed"},
        {"agent": "echo", "said": f"it is {secret} indeed"},
        {"agent": "echo", "said": [f"it is {secret} indeed"]},
        {"db_password": "HUNTER2PW", "agent": "echo"},
        {"agent": "echo", "card": int(CARD), "flag": True, "one": 1},
        {"agent": "echo", "text": "x" * 300},
    ]
    texts = redactor.json_column(bags)
    assert texts == [redactor.json(bag) for bag in bags]
    assert [json.loads(text) for text in texts[:50]] == bags[:50]
    assert not any(mark in text for text in texts[50:] for mark in MARKS)
    assert len(texts[-1]) < 300
