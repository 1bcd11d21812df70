"""What must not be written: named attributes, and text that looks like a card number, an e-mail address or a token.

It runs when rows are made, never in the request's way.
"""

import re
from bisect import bisect_right
from collections.abc import Callable, Mapping, Sequence
from fnmatch import translate
from functools import lru_cache
from itertools import accumulate
from typing import Any

from pydantic_core import to_json

from lakemesh.config.telemetry import RedactionConfig

CARD = re.compile(r"(?<![\w.])\d(?:[ -]?\d){12,18}(?![\w.])")
EMAIL = re.compile(r"[\w.+-]+@[\w-]+(?:\.[\w-]+)+")
TOKEN = re.compile(
    r"\b[Bb]earer\s+[\w.~+/=-]{8,}|\beyJ[\w-]{8,}\.[\w-]{8,}\.[\w-]+|\b(?:dapi|ghp_|xox[bp]-|sk-)[\w-]{16,}"
)
# What a text must contain for its pattern to be worth trying, every digit being read as a zero: plain searches over
# a whole batch cost a thirtieth of the patterns.
HINTS: Mapping[str, Sequence[bytes]] = {
    "card_number": (b"0000000000000", b"0000 0000", b"0000-0000"),
    "email": (b"@",),
    "token": (b"earer ", b"eyJ", b"dapi", b"ghp_", b"xox", b"sk-"),
}
DIGITS_AS_ZERO = bytes(ord("0") if chr(byte).isdecimal() and byte < 128 else byte for byte in range(256))


class Redactor:
    """Redacts attribute bags and texts by configuration, and cuts what is longer than `limit` characters."""

    def __init__(self, config: RedactionConfig, *, limit: int) -> None:
        self._limit = limit
        self._replace = [REPLACEMENTS[pattern] for pattern in config.patterns]
        self._hints = [hint for pattern in config.patterns for hint in HINTS[pattern]]
        names = "|".join(translate(name) for name in config.attributes) or r"(?!)"
        self._is_named = lru_cache(maxsize=4_096)(re.compile(names).fullmatch)

    def text(self, text: str | None) -> str | None:
        """The text without what the patterns find; cut, with its length told, when it is too long."""
        if text is None:
            return None
        if self._is_suspicious(text.encode(errors="replace")):
            for replace in self._replace:
                text = replace(text)
        return shortened(text, self._limit)

    def json(self, attributes: Mapping[str, Any]) -> str:
        """The attribute bag as a JSON object. Values JSON has no form for are written as text."""
        return self.json_column([attributes])[0]

    def json_column(self, bags: Sequence[Mapping[str, Any]]) -> list[str]:
        """`json` of each bag. Most batches hold nothing to take out, which one look at all of it tells."""
        named = self._is_named
        bags = [
            {key: "[redacted]" if named(key) else value for key, value in bag.items()} if any(map(named, bag)) else bag
            for bag in bags
        ]
        encoded = [to_bytes(bag) for bag in bags]
        texts = [text.decode() for text in encoded]
        for index in self._suspects(encoded):
            texts[index] = to_bytes({key: self._value(value) for key, value in bags[index].items()}).decode()
        return texts

    def _suspects(self, texts: Sequence[bytes]) -> set[int]:
        """Which texts are too long, or contain a hint."""
        ends = list(accumulate(len(text) + 1 for text in texts))
        plain = b"\n".join(texts).translate(DIGITS_AS_ZERO)
        found = {index for index, text in enumerate(texts) if len(text) > self._limit}
        for hint in self._hints:
            at = plain.find(hint)
            while at >= 0:
                index = bisect_right(ends, at)
                found.add(index)
                at = plain.find(hint, ends[index])
        return found

    def _is_suspicious(self, text: bytes) -> bool:
        plain = text.translate(DIGITS_AS_ZERO)
        return any(hint in plain for hint in self._hints)

    def _value(self, value: Any) -> Any:
        if isinstance(value, str):
            return self.text(value)
        if isinstance(value, Mapping):
            return {key: self._value(item) for key, item in value.items()}
        if isinstance(value, Sequence) and not isinstance(value, bytes | bytearray):
            return [self._value(item) for item in value]
        return value


def to_bytes(attributes: Mapping[str, Any]) -> bytes:
    return to_json(attributes, inf_nan_mode="strings", fallback=str, bytes_mode="base64")


def shortened(text: str, limit: int) -> str:
    """Text over the limit is cut and says how long it was."""
    return text if len(text) <= limit else f"{text[:limit]}… ({len(text)} characters)"


def without_cards(text: str) -> str:
    return CARD.sub(lambda match: "[card number]" if passes_luhn(match[0]) else match[0], text)


def without_emails(text: str) -> str:
    return EMAIL.sub("[e-mail]", text)


def without_tokens(text: str) -> str:
    return TOKEN.sub("[token]", text)


REPLACEMENTS: Mapping[str, Callable[[str], str]] = {
    "card_number": without_cards,
    "email": without_emails,
    "token": without_tokens,
}


def passes_luhn(text: str) -> bool:
    """The check digit of payment card numbers (ISO/IEC 7812-1, annex B)."""
    digits = [int(character) for character in text if character.isdigit()]
    doubled = (sum(divmod(2 * digit, 10)) for digit in digits[-2::-2])
    return (sum(digits[-1::-2]) + sum(doubled)) % 10 == 0
