"""Which domains a question belongs to: one, several or none, told from what is said about them.

Words weigh by BM25 (Robertson and Zaragoza 2009): rare among domains is worth more, long descriptions less. A word that
a domain does not have is compared with those that begin alike, as `weigh` and `weight` do.
"""

import math
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

SATURATION, LENGTH_WEIGHT = 0.6, 0.4  # k1 and b; few words are said of a domain, and each mostly once
ALIKE_WEIGHT, ALIKE_CHARACTERS = 0.7, 4
LEAST_SCORE, LEAST_SHARE = 0.16, 0.12
"""Below, a question is nobody's. The score is a share of what a word that no domain has would weigh. Chosen, as what
follows, on questions over 20 databases (tests/agents/analyst)."""
PART_SHARE, PART_MARGIN = 0.3, 1.5
"""A part of a question counts as a domain's own when so much of it is known there, and known so much better than
elsewhere."""
PARTS = re.compile(r"\b(?:and|versus|vs|compared (?:to|with)|as well as|together with|against|relative to)\b|[;,]")
WORD = re.compile(r"[^\W\d_]+")
HUMP = re.compile(r"(?<=[a-z0-9])(?=[A-Z])")
ENDINGS = ("ing", "ed", "es", "s", "er", "or")
COMMON = frozenset(
    """a an the of in on at for to from by and or is are was were be do does did what which who whose how many much show
    list find give me return all each every with that have has had their its it as not than there please tell different
    we our us i my can could you your this these those number count total last average most per over""".split()  # noqa: SIM905
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Scored:
    """`score` grows with what domain and question share; `share` is how much of the question's weight that is."""

    domain: str
    score: float
    share: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Route:
    """The domains to ask, best first; none when the question is nobody's. `scores` are all, best first."""

    domains: Sequence[str]
    scores: Sequence[Scored]


class DomainRouter:
    """`texts` are what is said of each domain."""

    def __init__(self, texts: Mapping[str, str], *, least_score: float = LEAST_SCORE) -> None:
        self._counts = {name: Counter(words_of(f"{name} {text}")) for name, text in texts.items()}
        self._having = Counter(word for counts in self._counts.values() for word in counts)
        lengths = {name: sum(counts.values()) for name, counts in self._counts.items()}
        mean = sum(lengths.values()) / max(1, len(lengths))
        self._lengths = {name: length / (mean or 1.0) for name, length in lengths.items()}
        self._least_score = least_score * self._rarity("")

    def route(self, question: str) -> Route:
        scores = self.scores(question)
        several = self._several(question)
        if len(several) > 1:
            return Route(domains=several, scores=scores)
        best = scores[0]
        known = best.score >= self._least_score and best.share >= LEAST_SHARE
        return Route(domains=[best.domain] if known else [], scores=scores)

    def scores(self, question: str) -> list[Scored]:
        asked = [word for word in words_of(question) if word not in COMMON]
        whole = sum(self._rarity(word) for word in asked) or 1.0
        found = []
        for name in self._counts:
            weights = [self._weight(word, name) for word in asked]
            share = sum(self._rarity(word) for word, weight in zip(asked, weights, strict=True) if weight) / whole
            found.append(Scored(domain=name, score=sum(weights), share=min(1.0, share)))
        return sorted(found, key=lambda one: (-one.score, one.domain))

    def _several(self, question: str) -> list[str]:
        """The domains that parts of the question belong to beyond doubt."""
        found: list[str] = []
        for part in PARTS.split(question):
            best, *others = self.scores(part)
            second = others[0].score if others else 0.0
            sure = best.score >= self._least_score and best.share >= PART_SHARE
            if sure and best.score >= PART_MARGIN * second and best.domain not in found:
                found.append(best.domain)
        return found

    def _weight(self, word: str, domain: str) -> float:
        counts = self._counts[domain]
        if word in counts:
            times = counts[word]
            normal = 1 - LENGTH_WEIGHT + LENGTH_WEIGHT * self._lengths[domain]
            return self._rarity(word) * times * (SATURATION + 1) / (times + SATURATION * normal)
        return ALIKE_WEIGHT * max((self._alike(word, other) for other in counts), default=0.0)

    def _alike(self, word: str, other: str) -> float:
        if min(len(word), len(other)) < ALIKE_CHARACTERS:
            return 0.0
        begins = word.startswith(other) or other.startswith(word) or word[:5] == other[:5]
        return min(len(word), len(other)) / max(len(word), len(other)) * self._rarity(other) if begins else 0.0

    def _rarity(self, word: str) -> float:
        having = self._having.get(word, 0)
        return math.log(1 + (len(self._counts) - having + 0.5) / (having + 0.5))


def words_of(text: str) -> list[str]:
    return [root(word.lower()) for word in WORD.findall(HUMP.sub(" ", text.replace("_", " ")))]


def root(word: str) -> str:
    """A word without its commonest endings."""
    if len(word) > 4 and word.endswith("ies"):
        return word[:-3] + "y"
    for ending in ENDINGS:
        if word.endswith(ending) and len(word) - len(ending) >= 4:
            return word[: -len(ending)]
    return word
