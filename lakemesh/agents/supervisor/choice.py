"""Which agent fits a task, told from its words alone: what a supervisor goes by when there is no model."""

import math
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

WORD = re.compile(r"[^\W\d_]{3,}")
STEM_CHARACTERS = 5
"""Words are compared by their beginnings, so that 'transactions' meets 'transaction'."""
PLAIN = {"type", "title", "description", "minLength", "maxLength", "default"}
"""What the schema of a field says that takes any text: no format, no pattern, no choices."""
COMMON = frozenset(
    """about agent and any are ask but can could does for from give given has have how its me more not please say should
    some tell than that the their them then there these they this what when where which who why will with would you
    your""".split()  # noqa: SIM905 (as a text it can be read)
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Candidate:
    """An agent as a model would be told of it."""

    name: str
    description: str
    schema: Mapping[str, Any]

    @property
    def fields(self) -> Mapping[str, Any]:
        return self.schema.get("properties") or {}

    @property
    def required(self) -> Sequence[str]:
        return self.schema.get("required") or ()

    def data_for(self, message: str, data: Mapping[str, Any] | None) -> Mapping[str, Any] | None:
        """What to hand over: the caller's data when it has every required field, or the message as the one text the
        agent takes. None when neither will do: data is never made up."""
        if data is not None:
            fits = set(self.required) <= data.keys() and (not self.fields or data.keys() <= self.fields.keys())
            return data if fits else None
        texts = [name for name, field in self.fields.items() if field.keys() <= PLAIN and field.get("type") == "string"]
        wanted = list(self.required) or texts[:1]
        return {wanted[0]: message} if len(wanted) == 1 and wanted[0] in texts else None


def ranked(message: str, candidates: Sequence[Candidate]) -> list[tuple[float, Candidate]]:
    """The candidates with how well they fit, best first: the share of the message's words that name, description or
    fields have, each word weighing more the fewer candidates have it (inverse document frequency). Equals keep their
    order."""
    known = [words_of(" ".join((one.name, one.description, *one.fields))) for one in candidates]
    having = Counter(word for words in known for word in words)
    asked = words_of(message)
    weights = {word: math.log(1 + len(candidates) / having.get(word, 0.5)) for word in asked}
    whole = sum(weights.values()) or 1.0
    scores = [sum(weights[word] for word in asked & words) / whole for words in known]
    return sorted(zip(scores, candidates, strict=True), key=lambda scored: -scored[0])


def words_of(text: str) -> set[str]:
    return {word[:STEM_CHARACTERS] for word in WORD.findall(text.lower().replace("_", " ")) if word not in COMMON}
