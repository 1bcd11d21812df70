"""The words of a question, and which of them have been understood."""

import re
from dataclasses import dataclass, field

WORD = re.compile(r"[^\W_]+(?:[.,]\d+)*")
STOP_WORDS = frozenset(
    """a about across all also an and are as at be been between broken by can compare compared could day did display do
    does down during each every find for from get give group grouped had has have how i in into is it its just list
    made make many me much my number of on only or our out over overall per please report same see show split tell than
    that the their them then there these they this those to total until us versus vs want was we were what which with
    within would you your""".split()  # noqa: SIM905 (as a text it can be read)
)


@dataclass(slots=True)
class Word:
    text: str
    stem: str
    start: int
    end: int
    understood: bool = False

    @property
    def is_plural(self) -> bool:
        return self.stem != self.text


@dataclass(slots=True)
class Words:
    """The words of one question, in lower case."""

    text: str
    all: list[Word] = field(default_factory=list)

    @classmethod
    def of(cls, question: str) -> "Words":
        text = question.lower().replace("\u2019", "'").replace("'s ", " ")
        found = [Word(match.group(), stem(match.group()), *match.span()) for match in WORD.finditer(text)]
        return cls(text, found)

    def understand(self, start: int, end: int) -> None:
        """What stands from `start` to `end` in the text is accounted for."""
        for word in self.all:
            if word.start >= start and word.end <= end:
                word.understood = True

    def left(self) -> list[Word]:
        return [word for word in self.all if not word.understood and word.text not in STOP_WORDS]

    def before(self, place: int, count: int = 1) -> list[str]:
        return [word.text for word in self.all[max(0, place - count) : place]]


def stem(word: str) -> str:
    """A word without its plural."""
    if len(word) > 4 and word.endswith("ies"):
        return word[:-3] + "y"
    if len(word) > 4 and word.endswith(("sses", "shes", "ches", "xes")):
        return word[:-2]
    if len(word) > 3 and word.endswith("s") and not word.endswith(("ss", "us", "is")):
        return word[:-1]
    return word


def stems(phrase: str) -> tuple[str, ...]:
    return tuple(stem(word) for word in WORD.findall(phrase.lower()))
