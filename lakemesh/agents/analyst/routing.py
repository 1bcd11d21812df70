"""Which domains a question belongs to: one, several or none, told from what is said about them.

Words weigh by BM25 (Robertson and Zaragoza 2009): rare among domains is worth more, long descriptions less. A word that
a domain does not have is compared with those that begin alike, as `weigh` and `weight` do. Where a model embeds, what
the question means counts beside its words.
"""

import math
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from copy import copy
from dataclasses import dataclass
from types import MappingProxyType

from cachetools import LRUCache
from pydantic import BaseModel, ConfigDict, Field

SATURATION, LENGTH_WEIGHT = 0.6, 0.4  # k1 and b; few words are said of a domain, and each mostly once
ALIKE_WEIGHT, ALIKE_CHARACTERS = 0.7, 4
WORDS_KEPT = 10_000
"""Words of questions whose weights are kept."""

PARTS = re.compile(r"\b(?:and|versus|vs|compared (?:to|with)|as well as|together with|against|relative to)\b|[;,]")
WORD = re.compile(r"[^\W\d_]+")
HUMP = re.compile(r"(?<=[a-z0-9])(?=[A-Z])")
ENDINGS = ("ing", "ed", "es", "s", "er", "or")
COMMON = frozenset(
    """a an the of in on at for to from by and or is are was were be do does did what which who whose how many much show
    list find give me return all each every with that have has had their its it as not than there please tell different
    we our us i my can could you your this these those number count total last average most per over""".split()  # noqa: SIM905
)


class RoutingWeights(BaseModel):
    """What decides, beside the words themselves. Scores are shares of what a word would weigh that no domain has.
    `lakemesh.agents.analyst.learning` learns them from questions whose domains are known."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    embedding: float = Field(default=0.5, ge=0, le=10, description="of the embeddings' cosine beside the words")
    least_score: float = Field(default=0.16, ge=0, description="a question whose words say less is nobody's")
    least_share: float = Field(default=0.12, ge=0, le=1, description="of a question's weight that must be known")
    part_share: float = Field(default=0.3, ge=0, le=1, description="the same, of a part that is another domain's")
    part_margin: float = Field(default=1.5, ge=1, description="how much better than elsewhere a part is known there")


@dataclass(frozen=True, slots=True, kw_only=True)
class Scored:
    """`score` is `lexical`, which grows with what domain and question share, and the weighed `embedding`, a cosine;
    `share` is how much of the question's weight the domain knows."""

    domain: str
    score: float
    lexical: float
    share: float
    embedding: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Route:
    """The domains to ask, best first; none when the question is nobody's. `scores` are all, best first."""

    domains: Sequence[str]
    scores: Sequence[Scored]


DEFAULTS = RoutingWeights()
NO_COSINES: Mapping[str, float] = MappingProxyType({})


class DomainRouter:
    """`texts` are what is said of each domain."""

    def __init__(self, texts: Mapping[str, str], weights: RoutingWeights = DEFAULTS) -> None:
        self._weights = weights
        self._counts = {name: Counter(words_of(f"{name} {text}")) for name, text in texts.items()}
        self._having = Counter(word for counts in self._counts.values() for word in counts)
        lengths = {name: sum(counts.values()) for name, counts in self._counts.items()}
        mean = sum(lengths.values()) / max(1, len(lengths))
        self._lengths = {name: length / (mean or 1.0) for name, length in lengths.items()}
        self._unknown = self._rarity("")
        self._known: LRUCache[str, list[float]] = LRUCache(WORDS_KEPT)

    def weighed(self, weights: RoutingWeights) -> "DomainRouter":
        """The same texts, other weights."""
        other = copy(self)
        other._weights = weights
        return other

    def route(self, question: str, cosines: Mapping[str, float] = NO_COSINES) -> Route:
        """`cosines` of the question and each domain, where there is a model that embeds. They choose among domains that
        have words of the question, and make none known that has none."""
        scores = self.scores(question, cosines)
        several = self._several(question)
        if len(several) > 1:
            return Route(domains=several, scores=scores)
        best = scores[0]
        known = best.lexical >= self._weights.least_score and best.share >= self._weights.least_share
        return Route(domains=[best.domain] if known else [], scores=scores)

    def scores(self, question: str, cosines: Mapping[str, float] = NO_COSINES) -> list[Scored]:
        asked = [word for word in words_of(question) if word not in COMMON]
        whole = sum(self._rarity(word) for word in asked) or 1.0
        by_word = [self._weights_of(word) for word in asked]
        found = []
        for place, name in enumerate(self._counts):
            weights = [weights[place] for weights in by_word]
            share = sum(self._rarity(word) for word, weight in zip(asked, weights, strict=True) if weight) / whole
            lexical, cosine = sum(weights) / self._unknown, cosines.get(name)
            score = lexical + self._weights.embedding * (cosine or 0.0)
            found.append(Scored(domain=name, score=score, lexical=lexical, share=min(1.0, share), embedding=cosine))
        return sorted(found, key=lambda one: (-one.score, one.domain))

    def _several(self, question: str) -> list[str]:
        """The domains that parts of the question belong to beyond doubt."""
        found: list[str] = []
        for part in PARTS.split(question):
            best, *others = self.scores(part)
            second = others[0].score if others else 0.0
            sure = best.score >= self._weights.least_score and best.share >= self._weights.part_share
            if sure and best.score >= self._weights.part_margin * second and best.domain not in found:
                found.append(best.domain)
        return found

    def _weights_of(self, word: str) -> list[float]:
        """By domain, in their order."""
        found = self._known.get(word)
        if found is None:
            found = self._known[word] = [self._weight(word, name) for name in self._counts]
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
