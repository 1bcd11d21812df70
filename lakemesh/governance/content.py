"""What texts that go into agents and come out of them may hold, by the rules of `policies.content`."""

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Literal

from lakemesh.config.policies import ContentRule
from lakemesh.errors import ContentRefused
from lakemesh.governance.injection import is_injection
from lakemesh.governance.patterns import matcher
from lakemesh.redaction import TextRedactor

Direction = Literal["in", "out"]
MAX_DEPTH = 64
KEPT_AGENTS = 1_024


@dataclass(frozen=True, slots=True)
class Screened:
    """A value, without what was to be masked, and what was found in it, as `rule: what`."""

    value: Any
    findings: Sequence[str]


class ContentRules:
    """The rules in force; `about` narrows them to those for one agent's input or output."""

    def __init__(self, rules: Mapping[str, ContentRule]) -> None:
        self._rules = [Screen(name, rule) for name, rule in rules.items()]
        self.about = lru_cache(maxsize=KEPT_AGENTS)(self._about)

    def _about(self, agent: str, direction: Direction) -> "Sequence[Screen]":
        return tuple(screen for screen in self._rules if screen.is_about(agent, direction))


class Screen:
    """One rule, ready to look."""

    def __init__(self, name: str, rule: ContentRule) -> None:
        self.name = name
        self.rule = rule
        self._is_meant = matcher(rule.agents)
        patterns = [found for found in rule.find if found != "injection"]
        self._redactor = TextRedactor(patterns) if patterns else None
        words = "|".join(re.escape(word) for word in rule.words)
        self._words = re.compile(rf"(?<!\w)(?:{words})(?!\w)", re.IGNORECASE) if words else None

    def is_about(self, agent: str, direction: Direction) -> bool:
        return self.rule.direction in (direction, "both") and self._is_meant(agent)

    def screen(self, value: Any) -> Screened:
        """Raises `ContentRefused` when the rule blocks what is found."""
        found = sorted(set(self._findings(value)))
        if not found:
            return Screened(value, ())
        if self.rule.action == "block":
            raise ContentRefused(
                f"The text holds {', '.join(found)}, which the rule {self.name!r} does not let pass.", rule=self.name
            )
        masked = with_texts(value, self._masked) if self.rule.action == "mask" else value
        return Screened(masked, [f"{self.name}: {what}" for what in found])

    def _findings(self, value: Any) -> Iterator[str]:
        characters = 0
        for text in texts_of(value):
            characters += len(text)
            if self._redactor is not None and self._masked(text) != text:
                yield "personal data or secrets"
            if "injection" in self.rule.find and is_injection(text):
                yield "instructions to the model"
            if self._words is not None and self._words.search(text):
                yield "a topic that is not for here"
        if self.rule.max_characters is not None and characters > self.rule.max_characters:
            yield f"more than {self.rule.max_characters} characters"

    def _masked(self, text: str) -> str:
        assert self._redactor is not None
        return self._redactor.redact(text, len(text))


def screened(screens: Sequence[Screen], value: Any) -> Screened:
    """JSON-ready `value` after all of them. Raises `ContentRefused`."""
    findings: list[str] = []
    for screen in screens:
        result = screen.screen(value)
        value = result.value
        findings += result.findings
    return Screened(value, findings)


def texts_of(value: Any, depth: int = 0) -> Iterator[str]:
    """Every text of JSON-ready data, keys of objects too."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, Mapping) and depth < MAX_DEPTH:
        for key, item in value.items():
            yield str(key)
            yield from texts_of(item, depth + 1)
    elif isinstance(value, list | tuple) and depth < MAX_DEPTH:
        for item in value:
            yield from texts_of(item, depth + 1)


def with_texts(value: Any, change: Callable[[str], str]) -> Any:
    """The same data with every text that is no key changed."""
    if isinstance(value, str):
        return change(value)
    if isinstance(value, Mapping):
        return {key: with_texts(item, change) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [with_texts(item, change) for item in value]
    return value
