"""Examples of good answers at the end of a prompt: of training cases whose answer is known, which come mostly from
executions that people liked or corrected, and as different from one another as they are."""

import json
from collections.abc import Sequence

import numpy as np

from lakemesh.errors import LakemeshError
from lakemesh.evaluation.cases import Case
from lakemesh.evaluation.observation import text_of
from lakemesh.evaluation.optimizers.workbench import Workbench

COUNTS = (8, 4, 2)
HEADING = "Examples of good answers:"


def choose(bench: Workbench) -> list[str]:
    """The text with eight, four and two examples."""
    known = [case for case in bench.train if case.expectations.has_output]
    order = spread(bench, known)
    return [with_examples(bench.source, [example_of(known[place]) for place in order[:count]]) for count in COUNTS]


def spread(bench: Workbench, cases: Sequence[Case]) -> list[int]:
    """An order in which each next case is the furthest from those before (Gonzalez, 1985), by their embeddings; as they
    stand where there is no model for it."""
    if not cases:
        return []
    texts = [json.dumps(case.inputs, ensure_ascii=False) for case in cases]
    try:
        vectors = np.array(bench.wait(bench.models.embed(texts)).vectors, dtype=float)
    except LakemeshError:
        return list(range(len(cases)))
    order = [0]
    nearest = np.linalg.norm(vectors - vectors[0], axis=1)
    while len(order) < min(len(cases), max(COUNTS)):
        order.append(int(np.argmax(nearest)))
        nearest = np.minimum(nearest, np.linalg.norm(vectors - vectors[order[-1]], axis=1))
    return order


def example_of(case: Case) -> tuple[str, str]:
    return json.dumps(case.inputs, ensure_ascii=False), text_of(case.expectations.output)


def with_examples(source: str, examples: Sequence[tuple[str, str]]) -> str:
    """Examples are text, never template: those that hold what a template would read are left out."""
    kept = [pair for pair in examples if not any(mark in part for part in pair for mark in ("{{", "{%", "{#"))]
    if not kept:
        return source
    lines = [f"Input: {asked}\nAnswer: {answer}" for asked, answer in kept]
    return "\n\n".join([source.rstrip(), HEADING, *lines])
