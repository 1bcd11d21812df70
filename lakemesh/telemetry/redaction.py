"""Attribute bags and captured content without secrets. It runs when rows are made, never in the request's way."""

import re
from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import Any

from pydantic_core import PydanticSerializationError, from_json, to_json

from lakemesh.config.telemetry import RedactionConfig
from lakemesh.redaction import (
    REDACTED,
    NameMatcher,
    TextRedactor,
    folded,
    hides,
    is_card_number,
    passes_luhn,
)

__all__ = ["Redactor", "passes_luhn"]

MAX_DEPTH = 64
MAX_PARSED_CHARACTERS = 1024 * 1024
"""JSON up to this is read as such, longer JSON as text."""
ID = re.compile(r"[0-9a-f]{32}")
FEW = 128
"""Texts up to which one search after the other is quicker than to compile an expression of all of them."""


class Redactor:
    """Redacts attribute bags and texts by configuration, and cuts what is longer than `limit` characters."""

    def __init__(self, config: RedactionConfig, *, limit: int) -> None:
        self._limit = limit
        self._texts = TextRedactor(config.patterns)
        self._finds_cards = "card_number" in config.patterns
        self._is_named = NameMatcher(config.attributes)
        self._hints = sorted({*self._texts.hints, *map(longest_piece, config.attributes)})
        self._any_hint = "|".join(re.escape(hint.decode()).replace("0", "[0-9]") for hint in self._hints) or r"[^\s\S]"

    def text(self, text: str | None) -> str | None:
        """The text without what the patterns find; cut, with its length told, when it is too long."""
        return None if text is None else self._texts.redact(text, self._limit)

    def content(self, text: str | None) -> str | None:
        """JSON text, also without the values of named members at any depth; what is not JSON, as any text."""
        if text is None:
            return None
        if len(text) <= MAX_PARSED_CHARACTERS and self._is_suspicious(text):
            with suppress(ValueError):
                text = to_bytes(self._value(from_json(text), len(text))).decode()
                return text if len(text) <= self._limit else f"{text[: self._limit]}… ({len(text)} characters)"
        return self.text(text)

    def json(self, attributes: Mapping[str, Any]) -> str:
        """The attribute bag as a JSON object. Values JSON has no form for are written as text."""
        return self.json_column([attributes])[0]

    def json_column(self, bags: Sequence[Mapping[str, Any]]) -> list[str]:
        """`json` of each bag. Most batches hold nothing to take out, and say the same few things again and again: one
        look at each different thing tells."""
        texts = [to_bytes(bag).decode() for bag in bags]
        for index in self._suspects(bags, texts):
            texts[index] = to_bytes(self._value(from_json(texts[index]), self._limit)).decode()
        return texts

    def _suspects(self, bags: Sequence[Mapping[str, Any]], texts: Sequence[str]) -> list[int]:
        """Which bags have something to take out, or lists and the like with a hint of it."""
        pairs: set[tuple[str, Any]] = set()
        unhashable: list[int] = []
        for index, bag in enumerate(bags):
            try:
                pairs.update(bag.items())
            except TypeError:
                unhashable.append(index)
        found = self._hinted([texts[index].encode() for index in unhashable])
        suspects = [index for place, index in enumerate(unhashable) if place in found]
        if secrets := self._secrets(list(pairs)):
            plain = set(range(len(bags))).difference(unhashable)
            suspects += [index for index in plain if not secrets.isdisjoint(bags[index].items())]
        return suspects

    def _secrets(self, pairs: Sequence[tuple[str, Any]]) -> set[tuple[str, Any]]:
        """The pairs of name and value that do not stay as they are. Names are few, and looked at once; ids of traces
        and executions, which are many, are nothing to look at unless their name says otherwise."""
        names = list({name for name, _ in pairs})
        named = {names[index] for index in self._hinted([name.encode(errors="replace") for name in names])}
        pairs = [(name, value) for name, value in pairs if name in named or not is_id(value)]
        values = [to_bytes(value) for _, value in pairs]
        candidates = self._hinted(values)
        if named:
            candidates |= {index for index, (name, _) in enumerate(pairs) if name in named}
        secrets = set()
        for index in candidates:
            pair = {pairs[index][0]: from_json(values[index])}
            if self._value(pair, self._limit) != pair:
                secrets.add(pairs[index])
        return secrets

    def _hinted(self, texts: Sequence[bytes]) -> set[int]:
        """Which texts are too long, or contain a hint. Arrow searches a column of them (RE2) in a third of the time,
        while others run."""
        if len(texts) <= FEW:
            plain = map(folded, texts)
            return {
                index
                for index, text in enumerate(plain)
                if len(text) > self._limit or any(hint in text for hint in self._hints)
            }
        import pyarrow as pa
        import pyarrow.compute as pc

        found = pc.match_substring_regex(pa.array(texts, pa.string()), self._any_hint, ignore_case=True).to_pylist()
        return {index for index, text in enumerate(texts) if found[index] or len(text) > self._limit}

    def _is_suspicious(self, text: str) -> bool:
        plain = folded(text.encode(errors="replace"))
        return any(hint in plain for hint in self._hints)

    def _value(self, value: Any, limit: int, depth: int = 0) -> Any:
        """A JSON value without secrets, its texts cut at `limit`. Text that is JSON itself is looked into."""
        if isinstance(value, str):
            is_json = depth <= 1 and value[:1] in ("{", "[")
            return self.content(value) if is_json else self._texts.redact(value, limit)
        if depth > MAX_DEPTH and isinstance(value, dict | list):
            return REDACTED
        if isinstance(value, dict):
            return {
                self._texts.redact(name, limit): REDACTED
                if self._is_named(name) and hides(name, item)
                else self._value(item, limit, depth + 1)
                for name, item in value.items()
            }
        if isinstance(value, list):
            return [self._value(item, limit, depth + 1) for item in value]
        if self._finds_cards and isinstance(value, int | float) and is_card_number(value):
            return "[card number]"
        return value


def is_id(value: Any) -> bool:
    return isinstance(value, str) and ID.fullmatch(value) is not None


def to_bytes(value: Any) -> bytes:
    """As JSON; text that is not Unicode (a lone surrogate) is written with question marks."""
    try:
        return to_json(value, inf_nan_mode="strings", fallback=str, bytes_mode="base64")
    except (PydanticSerializationError, UnicodeEncodeError, ValueError):
        return to_json(printable(value), inf_nan_mode="strings", fallback=str, bytes_mode="base64")


def printable(value: Any, depth: int = 0) -> Any:
    """The value with everything in it that JSON cannot say as text it can."""
    if value is None or isinstance(value, bool | int | float):
        return value
    if depth > MAX_DEPTH:
        return "…"
    if isinstance(value, Mapping):
        return {str(printable(str(name))): printable(item, depth + 1) for name, item in value.items()}
    if isinstance(value, list | tuple | set | frozenset):
        return [printable(item, depth + 1) for item in value]
    return str(value).encode(errors="replace").decode()


def longest_piece(pattern: str) -> bytes:
    """The part of a name's pattern that every name of its kind contains."""
    return folded(max(pattern.split("*"), key=len).encode())
