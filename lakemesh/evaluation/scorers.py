"""Scorers that ask no model. Each is configured by its own fields and gives one metric.

An agent that failed has failed whatever it was asked for: its score is 0, never left out.
"""

import asyncio
import importlib
import json
import re
from abc import abstractmethod
from collections.abc import Iterator, Mapping
from decimal import Decimal, InvalidOperation
from functools import cached_property
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, field_validator

from lakemesh.errors import ConfigurationInvalid
from lakemesh.evaluation.cases import Case, digest
from lakemesh.evaluation.observation import MISSING, Observation, Score, at_path, text_of
from lakemesh.redaction import TextRedactor

NUMBER = re.compile(r"(?<![\w.])[-+−]?(?:\d{1,3}(?:[,'\u2009]\d{3})+(?:\.\d+)?|\d+(?:\.\d+)?(?:[eE][-+]?\d+)?)")
MAX_TEXT = 200_000
REFUSALS = re.compile(
    r"\b(?:i (?:can(?:no|')t|am (?:not able|unable)|won't|will not|must decline)|i'm (?:sorry|unable|not able)|"
    r"cannot (?:help|assist|answer|provide|do) |not (?:able|allowed|permitted) to (?:help|assist|answer|provide|do)|"
    r"decline to|unable to (?:help|assist|answer|provide))",
    re.IGNORECASE,
)
Verdict = tuple[float | None, str]
"""A value and why; None when the case expects nothing of the kind."""
NOTHING_EXPECTED: Verdict = (None, "the case expects nothing of the kind")


class BaseScorer(BaseModel):
    """`name` is the metric's; the type is where none is given. `field` is the dotted path of what is looked at in the
    result; all of it where it is empty."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    type: str
    name: str = Field(default="", pattern=r"^[\w./-]{0,100}$")
    field: str = ""

    @property
    def metric(self) -> str:
        return self.name or self.type

    @property
    def identity(self) -> str:
        return digest(self.model_dump(mode="json"))[:16]

    async def score(self, case: Case, seen: Observation) -> Score:
        if seen.error is not None:
            return Score(metric=self.metric, value=0.0, rationale=f"the agent failed: {seen.error}")
        value, rationale = self.measure(case, seen)
        return Score(metric=self.metric, value=value, rationale=rationale)

    @abstractmethod
    def measure(self, case: Case, seen: Observation) -> Verdict: ...

    def found(self, seen: Observation) -> Any:
        return at_path(seen.result, self.field)

    def found_text(self, seen: Observation) -> str:
        found = self.found(seen)
        return "" if found is MISSING else text_of(found)[:MAX_TEXT]


def passed(holds: bool, reason: str) -> Verdict:
    return (1.0, "") if holds else (0.0, reason)


class Exact(BaseScorer):
    """The result (or its `field`) is the expected `output`, texts without regard to space around them."""

    type: Literal["exact"] = "exact"
    ignore_case: bool = False

    def measure(self, case: Case, seen: Observation) -> Verdict:
        if not case.expectations.has_output:
            return NOTHING_EXPECTED
        expected, found = case.expectations.output, self.found(seen)
        if isinstance(expected, str) and isinstance(found, Mapping):
            found = found.get("text", found)
        return passed(self._plain(found) == self._plain(expected), f"{short(found)} is not {short(expected)}")

    def _plain(self, value: Any) -> Any:
        if not isinstance(value, str):
            return value
        return value.strip().casefold() if self.ignore_case else value.strip()


class Fields(BaseScorer):
    """The share of the expected `fields` that the result has. Numbers may be off by `relative` or `absolute`."""

    type: Literal["fields"] = "fields"
    relative: float = Field(default=0.0, ge=0)
    absolute: float = Field(default=0.0, ge=0)

    def measure(self, case: Case, seen: Observation) -> Verdict:
        expected = case.expectations.fields
        if not expected:
            return NOTHING_EXPECTED
        wrong = [path for path, value in expected.items() if not self._same(at_path(seen.result, path), value)]
        return 1 - len(wrong) / len(expected), f"wrong: {', '.join(wrong)}" if wrong else ""

    def _same(self, found: Any, expected: Any) -> bool:
        if is_number(found) and is_number(expected):
            return is_close(float(found), float(expected), self.relative, self.absolute)
        return type(found) is type(expected) and bool(found == expected)


class Numeric(BaseScorer):
    """The expected `output` is a number, and the result (or its `field`) is within the tolerance of it."""

    type: Literal["numeric"] = "numeric"
    relative: float = Field(default=1e-6, ge=0)
    absolute: float = Field(default=0.0, ge=0)

    def measure(self, case: Case, seen: Observation) -> Verdict:
        expected = case.expectations.output
        if not is_number(expected):
            return NOTHING_EXPECTED
        found = self.found(seen)
        if not is_number(found):
            written = list(numbers_in(self.found_text(seen)))
            if len(written) != 1:
                return 0.0, f"{short(found)} is not one number"
            found = written[0]
        holds = is_close(float(found), float(expected), self.relative, self.absolute)
        return passed(holds, f"{found} is not {expected}")


class JsonSchema(BaseScorer):
    """The result (or its `field`, also as JSON text) fits a JSON Schema."""

    type: Literal["json_schema"] = "json_schema"
    json_schema: dict[str, Any] = Field(alias="schema")

    def measure(self, case: Case, seen: Observation) -> Verdict:
        from jsonschema import ValidationError, validate

        found = self.found(seen)
        try:
            if isinstance(found, str) and self.json_schema.get("type") != "string":
                found = json.loads(found)
            validate(None if found is MISSING else found, self.json_schema)
        except ValueError:
            return 0.0, "it is not JSON"
        except ValidationError as error:
            return 0.0, f"{error.json_path}: {error.message:.300}"
        return 1.0, ""


class Matches(BaseScorer):
    """A regular expression is found in the text."""

    type: Literal["regex"] = "regex"
    pattern: str
    absent: bool = Field(default=False, description="it must not be found")

    @field_validator("pattern")
    @classmethod
    def _compiles(cls, value: str) -> str:
        try:
            re.compile(value)
        except re.error as error:
            raise ValueError(f"not a regular expression: {error}") from None
        return value

    def measure(self, case: Case, seen: Observation) -> Verdict:
        there = re.search(self.pattern, self.found_text(seen)) is not None
        return passed(there != self.absent, f"the pattern is {'there' if there else 'not there'}")


class Facts(BaseScorer):
    """The share of the expected `facts` that the text has, letter for letter but for case and space. A judge of
    `correctness` looks at what is meant."""

    type: Literal["facts"] = "facts"

    def measure(self, case: Case, seen: Observation) -> Verdict:
        facts = case.expectations.facts
        if not facts:
            return NOTHING_EXPECTED
        text = folded(self.found_text(seen))
        missing = [fact for fact in facts if folded(fact) not in text]
        return 1 - len(missing) / len(facts), f"missing: {'; '.join(missing)}" if missing else ""


class Forbidden(BaseScorer):
    """None of the `forbidden` texts of the case is in the answer."""

    type: Literal["forbidden"] = "forbidden"

    def measure(self, case: Case, seen: Observation) -> Verdict:
        if not case.expectations.forbidden:
            return NOTHING_EXPECTED
        text = folded(self.found_text(seen))
        there = [phrase for phrase in case.expectations.forbidden if folded(phrase) in text]
        return passed(not there, f"it has: {'; '.join(there)}")


class ToolCalls(BaseScorer):
    """The expected `tools` were called: `ordered` in this order, others between them allowed; `exact` these calls and
    no others; `any_order` each at least as often as expected."""

    type: Literal["tool_calls"] = "tool_calls"
    order: Literal["ordered", "exact", "any_order"] = "ordered"

    def measure(self, case: Case, seen: Observation) -> Verdict:
        expected = case.expectations.tools
        if expected is None:
            return NOTHING_EXPECTED
        called = seen.tools
        return passed(self._holds(expected, called), f"called {called or 'none'}, expected {expected or 'none'}")

    def _holds(self, expected: list[str], called: list[str]) -> bool:
        if self.order == "exact" or not expected:
            return called == expected
        if self.order == "any_order":
            return all(called.count(name) >= expected.count(name) for name in set(expected))
        rest = iter(called)
        return all(name in rest for name in expected)


class GroundedNumbers(BaseScorer):
    """The share of the numbers in the text that are among the retrieved `rows` (a dotted path in the result), as they
    are or rounded as the text rounds them, also as per cent. A text without numbers claims none."""

    type: Literal["grounded_numbers"] = "grounded_numbers"
    rows: str = "rows"
    ignore_below: int = Field(default=0, ge=0, description="whole numbers smaller than this are no claims")

    def measure(self, case: Case, seen: Observation) -> Verdict:
        rows = at_path(seen.result, self.rows)
        if rows is MISSING:
            return 0.0, f"the result has no {self.rows!r}"
        known = list(numbers_of(rows))
        text = list(numbers_in(self.found_text(seen)))
        claims = [number for number in text if not (number == int(number) and abs(number) < self.ignore_below)]
        loose = [number for number in claims if not is_grounded(number, known)]
        share = 1 - len(loose) / len(claims) if claims else 1.0
        return share, f"not in the rows: {', '.join(map(str, loose[:10]))}" if loose else ""


class Pii(BaseScorer):
    """No personal data in the answer: card numbers, e-mail addresses, credentials."""

    type: Literal["pii"] = "pii"

    def measure(self, case: Case, seen: Observation) -> Verdict:
        text = json.dumps(self.found(seen), default=str, ensure_ascii=False)[:MAX_TEXT]
        clean = TextRedactor(["card_number", "email", "token"]).redact(text, len(text) + 1) == text
        return passed(clean, "it has personal data or a credential")


class Refusal(BaseScorer):
    """The agent declines exactly when the case expects it. Wording only: a judge with guidelines looks closer."""

    type: Literal["refusal"] = "refusal"

    async def score(self, case: Case, seen: Observation) -> Score:
        if seen.error is not None and seen.error.startswith("model_refused") and case.expectations.refuse:
            return Score(metric=self.metric, value=1.0, rationale="the model refused")
        return await super().score(case, seen)

    def measure(self, case: Case, seen: Observation) -> Verdict:
        wanted = case.expectations.refuse
        if wanted is None:
            return NOTHING_EXPECTED
        refused = REFUSALS.search(self.found_text(seen).replace("’", "'")) is not None
        return passed(refused == wanted, "it declines" if refused else "it does not decline")


class Measured(BaseScorer):
    """A number of the execution as it is: its latency in milliseconds, or its cost in US dollars."""

    type: Literal["latency_ms", "cost_usd"]

    async def score(self, case: Case, seen: Observation) -> Score:
        """Also of an agent that failed: it took its time."""
        value, _ = self.measure(case, seen)
        return Score(metric=self.metric, value=value)

    def measure(self, case: Case, seen: Observation) -> Verdict:
        return (seen.latency_ms if self.type == "latency_ms" else seen.cost_usd), ""


class Succeeds(BaseScorer):
    """The agent answered, and not in a degraded way."""

    type: Literal["succeeds"] = "succeeds"

    def measure(self, case: Case, seen: Observation) -> Verdict:
        degraded = seen.metadata.get("degraded") or ()
        return passed(not degraded, f"degraded: {', '.join(map(str, degraded))}")


class Custom(BaseScorer):
    """A function `module:name` of an installed package or this folder, called as MLflow's scorers are: with `inputs`,
    `outputs` and `expectations`. A class is built with `arguments` first. It returns a number, a boolean, or an object
    with `value`, `rationale` and `error`; MLflow's own scorers fit as they are."""

    type: Literal["custom"] = "custom"
    function: str = Field(pattern=r"^[\w.]+:\w+$")
    arguments: dict[str, Any] = {}

    @cached_property
    def _called(self) -> Any:
        """Raises `ConfigurationInvalid`. An MLflow scorer is called by its `run`, which passes on what it takes."""
        module, _, name = self.function.partition(":")
        try:
            found = getattr(importlib.import_module(module), name)
            found = found(**self.arguments) if isinstance(found, type) else found
        except (ImportError, AttributeError, TypeError, ValueError) as error:
            raise ConfigurationInvalid([f"scorer {self.metric}: {error}"]) from None
        return found.run if hasattr(found, "aggregations") and hasattr(found, "run") else found

    async def score(self, case: Case, seen: Observation) -> Score:
        """In a thread: nobody knows what the function does."""
        if seen.error is not None:
            return await super().score(case, seen)
        value, rationale = await asyncio.to_thread(self.measure, case, seen)
        return Score(metric=self.metric, value=value, rationale=rationale)

    def measure(self, case: Case, seen: Observation) -> Verdict:
        expectations = case.expectations.model_dump(exclude_unset=True)
        given = self._called(inputs=case.inputs, outputs=seen.result, expectations=expectations)
        if fault := getattr(given, "error", None):
            raise ValueError(f"it did not measure: {fault}")
        value = getattr(given, "value", given)
        rationale = str(getattr(given, "rationale", None) or "")
        if value in ("yes", "no"):
            value = value == "yes"
        if value is None:
            return None, rationale
        if not isinstance(value, bool | int | float):
            raise TypeError(f"it gave {short(value)}, which is no number")
        return float(value), rationale


AnyScorer = Annotated[
    Exact | Fields | Numeric | JsonSchema | Matches | Facts | Forbidden | ToolCalls | GroundedNumbers | Pii | Refusal
    | Measured | Succeeds | Custom,
    Field(discriminator="type"),
]  # fmt: skip


def is_number(value: Any) -> bool:
    return isinstance(value, int | float | Decimal) and not isinstance(value, bool)


def is_close(found: float, expected: float, relative: float, absolute: float) -> bool:
    return abs(found - expected) <= max(absolute, relative * abs(expected))


def is_grounded(number: Decimal, known: list[Decimal]) -> bool:
    places = number.as_tuple().exponent
    assert isinstance(places, int)
    unit = Decimal(1).scaleb(min(places, 0))
    return any(abs(abs(number) - abs(form)) <= unit / 2 for one in known for form in (one, one * 100))


def numbers_in(text: str) -> Iterator[Decimal]:
    """The numbers a text is written with; thousands may be grouped."""
    for match in NUMBER.finditer(text):
        yield Decimal(re.sub(r"[,'\u2009]", "", match[0]).replace("−", "-"))


def numbers_of(value: Any) -> Iterator[Decimal]:
    """All numbers in JSON, those written in its texts included."""
    if isinstance(value, Mapping):
        for item in value.values():
            yield from numbers_of(item)
    elif isinstance(value, list | tuple):
        for item in value:
            yield from numbers_of(item)
    elif is_number(value):
        try:
            number = Decimal(str(value))
        except InvalidOperation:
            return
        if number.is_finite():
            yield number
    elif isinstance(value, str):
        yield from numbers_in(value)


def folded(text: str) -> str:
    return " ".join(text.casefold().split())


def short(value: Any) -> str:
    return "nothing" if value is MISSING else f"{text_of(value)!r:.200}"
