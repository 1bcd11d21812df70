"""What the phrases of a semantic model mean, and where a question says them."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

from lakemesh.agents.analyst.semantic_model import SemanticModel, phrases_of
from lakemesh.agents.analyst.words import Words, stems


@dataclass(frozen=True, slots=True)
class Meaning:
    """A metric or dimension, or one `value` of a dimension."""

    kind: Literal["metric", "dimension", "value"]
    name: str
    value: str = ""


@dataclass(frozen=True, slots=True)
class Mention:
    """Words `start` to before `end` of a question, and what they may mean."""

    start: int
    end: int
    meanings: Sequence[Meaning]

    def of(self, kind: str) -> list[Meaning]:
        return [one for one in self.meanings if one.kind == kind]


class Lexicon:
    def __init__(self, model: SemanticModel) -> None:
        self._phrases: dict[tuple[str, ...], list[Meaning]] = {}
        for phrase, name in phrases_of(model.metrics):
            self._add(phrase, Meaning("metric", name))
        for phrase, name in phrases_of(model.dimensions):
            self._add(phrase, Meaning("dimension", name))
        for name, dimension in model.dimensions.items():
            for value, others in dimension.values.items():
                for phrase in (value, *others):
                    self._add(phrase, Meaning("value", name, value))
        self._longest = max(map(len, self._phrases))

    def mentions(self, words: Words) -> Iterator[Mention]:
        """The longest phrases first come, each word in one phrase at most; what is understood already is passed by."""
        place = 0
        while place < len(words.all):
            for length in range(min(self._longest, len(words.all) - place), 0, -1):
                said = words.all[place : place + length]
                meanings = self._phrases.get(tuple(word.stem for word in said))
                if meanings and not any(word.understood for word in said):
                    yield Mention(place, place + length, meanings)
                    place += length
                    break
            else:
                place += 1

    def is_dimension(self, phrase: str) -> bool:
        return any(one.kind == "dimension" for one in self._phrases.get(stems(phrase), ()))

    def metric_stems(self, question: str) -> frozenset[str]:
        """The words of the question by which it names metrics."""
        words = Words.of(question)
        found = [mention for mention in self.mentions(words) if mention.of("metric")]
        return frozenset(word.stem for mention in found for word in words.all[mention.start : mention.end])

    def _add(self, phrase: str, meaning: Meaning) -> None:
        known = self._phrases.setdefault(stems(phrase), [])
        if meaning not in known:
            known.append(meaning)
