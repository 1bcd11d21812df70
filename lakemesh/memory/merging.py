"""What a new fact does to those that are known: it confirms one, takes the place of one, or joins them."""

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING
from uuid import UUID

from lakemesh.memory.facts import Fact

if TYPE_CHECKING:
    import numpy as np

NEARLY_THE_SAME = 0.95
"""Cosine of two facts that are merged though their words differ."""


def told(known: Sequence[Fact], new: Sequence[Fact], *, half_life_days: float) -> list[Fact]:
    """The facts to write, when `new` ones are stated one after the other. One that is known is confirmed; one that
    contradicts others ends them, as of when it was said."""
    held = {fact.id: fact for fact in known if fact.valid_until is None}
    changed: dict[UUID, Fact] = {}
    for fact in new:
        others = [one for one in held.values() if one.namespace == fact.namespace]
        same = next((one for one in others if one.says_the_same_as(fact)), None)
        if same is not None:
            held[same.id] = changed[same.id] = same.confirmed_by(fact, half_life_days=half_life_days)
            continue
        for other in others:
            if fact.contradicts(other):
                changed[other.id] = replace(other, valid_until=fact.valid_from, superseded_by=fact.id)
                del held[other.id]
        held[fact.id] = changed[fact.id] = fact
    return list(changed.values())


def merged(known: Sequence[Fact], vectors: Sequence[Sequence[float]], *, half_life_days: float) -> list[Fact]:
    """The facts to write, when near-duplicates among `known` become one: of each pair the one that was confirmed first
    stays, with both sources, and the other one ends in its favour. `vectors` are theirs. Those that contradict each
    other, or are of other namespaces or kinds, are no duplicates, however near they are."""
    order = sorted(range(len(known)), key=lambda place: (known[place].valid_from, known[place].id))
    facts = {place: known[place] for place in order}
    near = cosines(vectors)
    changed: dict[UUID, Fact] = {}
    for position, place in enumerate(order):
        for later in order[position + 1 :]:
            if place not in facts or later not in facts:
                continue
            first, second = facts[place], facts[later]
            if not mergeable(first, second) or near[place, later] < NEARLY_THE_SAME:
                continue
            facts[place] = changed[first.id] = first.confirmed_by(second, half_life_days=half_life_days)
            changed[second.id] = replace(second, valid_until=second.confirmed_at, superseded_by=first.id)
            del facts[later]
    return list(changed.values())


def mergeable(first: Fact, second: Fact) -> bool:
    if (first.namespace, first.kind) != (second.namespace, second.kind):
        return False
    if first.slot is not None and second.slot is not None:
        return first.says_the_same_as(second)
    return True


def cosines(vectors: Sequence[Sequence[float]]) -> "np.ndarray[tuple[int, int], np.dtype[np.float64]]":
    import numpy as np

    matrix = np.asarray(vectors, dtype=np.float64)
    lengths = np.linalg.norm(matrix, axis=1, keepdims=True)
    scaled = matrix / np.where(lengths == 0, 1.0, lengths)
    product: np.ndarray[tuple[int, int], np.dtype[np.float64]] = scaled @ scaled.T
    return product
