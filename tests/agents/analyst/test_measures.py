"""Routing and chart hints, measured on published questions, where the files are there."""

import hashlib
import json
import os
import re
from collections import Counter
from pathlib import Path

import numpy as np
import pyarrow.parquet
import pytest

from lakemesh.agents.analyst.charts import hint
from lakemesh.agents.analyst.learning import Labelled, learned, measured
from lakemesh.agents.analyst.routing import DomainRouter
from lakemesh.lakehouse.embedded.hashed_embedding import embed_text

DIMENSION = 384
DRAWN = {"bar": "Bar", "stacked": "Stacked Bar", "grouped bar": "Stacked Bar", "pie": "Pie"}
HELD_OUT = 4_000
CHART_NAME = re.compile(
    r"\b(?:(?:an?|the|using|with|in|by|as|through|draw|plot|of)\s+)*"
    r"(?:stacked|grouped|grouping|group|bar|pie|line|scatter|histogram)s?"
    r"(?:[ -]+(?:bar|line|scatter|chart|graph|plot|diagram|type)s?)*\b"
    r"|\b(?:chart|graph|plot|diagram|histogram|scatter)s?\b",
    re.IGNORECASE,
)


def rows_of(variable: str) -> list[dict]:
    if variable not in os.environ:
        pytest.skip(f"{variable} does not name the published questions")
    return pyarrow.parquet.read_table(Path(os.environ[variable])).to_pylist()


def test_questions_find_their_database_from_its_schema_alone() -> None:
    """Spider's questions over 20 databases; word statistics alone reach 0.918. Weights are learned on one half of the
    questions, by a digest of their words, and measured on the other, both ways. Rarity, endings and common words were
    written with all questions in view."""
    asked = rows_of("LAKEMESH_ROUTING_QUESTIONS")
    texts = {
        name: " ; ".join(f"{table} {table} {' '.join(columns)}" for table, columns in tables.items())
        for name, tables in {one["database"]: json.loads(one["schema_json"]) for one in asked}.items()
    }
    router = DomainRouter(texts)
    vectors = {name: np.array(embed_text(text, DIMENSION)) for name, text in texts.items()}
    halves: tuple[list[Labelled], list[Labelled]] = ([], [])
    for one in asked:
        vector = np.array(embed_text(one["question"], DIMENSION))
        cosines = {name: float(other @ vector) for name, other in vectors.items()}
        labelled = Labelled(question=one["question"], domains=frozenset({one["database"]}), cosines=cosines)
        halves[half_of(one["question"])].append(labelled)
    found = [measured(router.weighed(learned(router, halves[1 - held])), halves[held]) for held in (0, 1)]
    shares = [len(half) / len(asked) for half in halves]
    right = sum(one.right * share for one, share in zip(found, shares, strict=True))
    false_cross = sum(one.false_cross * share for one, share in zip(found, shares, strict=True))
    shipped = measured(router, [one for half in halves for one in half])
    print(f"routing, held out: right {right:.3f}, false cross-domain {false_cross:.3f}; shipped weights: {shipped}")  # noqa: T201
    assert right >= 0.93
    assert false_cross <= 0.02
    assert shipped.right >= 0.93


def digest(text: str) -> bytes:
    return hashlib.sha256(text.encode()).digest()


def half_of(text: str) -> int:
    return digest(text)[0] % 2


def test_charts_are_those_that_people_drew() -> None:
    """nvBench's questions that name no chart; cue words reach 0.905. The rules were written with these in view, so they
    are measured on others too: questions that name a chart, with its name taken out, whose rows are those of no
    question that was seen."""
    every = rows_of("LAKEMESH_CHART_QUESTIONS")
    seen = [one for one in every if not one["names_a_chart"]]
    known = {one["rows_json"] for one in seen}
    others = [one for one in every if one["names_a_chart"] and one["rows_json"] not in known]
    others = sorted(others, key=lambda one: digest(one["question"] + one["rows_json"]))[:HELD_OUT]
    for name, asked in (("seen", seen), ("not seen", others)):
        pairs = Counter((one["chart"], drawn(one)) for one in asked)
        right = sum(count for (one, hinted), count in pairs.items() if one == hinted) / len(asked)
        scores = {kind: f1(kind, pairs) for kind in sorted({kind for kind, _ in pairs})}
        macro = sum(scores.values()) / len(scores)
        kinds = {kind: round(score, 2) for kind, score in scores.items()}
        print(f"charts, {name} ({len(asked)}): right {right:.3f}, macro F1 {macro:.3f}", kinds)  # noqa: T201
        assert right >= 0.92
        assert macro >= 0.8


def drawn(one: dict) -> str:
    """Which of nvBench's charts our hint is."""
    rows = json.loads(one["rows_json"])
    columns = list(rows[0])
    question = CHART_NAME.sub(" ", one["question"]) if one["names_a_chart"] else one["question"]
    chart, _ = hint(question, columns, [[row[name] for name in columns] for row in rows])
    if chart.kind in ("scatter", "line"):
        return f"Grouping {chart.kind.capitalize()}" if chart.series else chart.kind.capitalize()
    return DRAWN.get(chart.kind, chart.kind)


def f1(kind: str, pairs: Counter[tuple[str, str]]) -> float:
    drawn = sum(count for (one, _), count in pairs.items() if one == kind)
    hinted = sum(count for (_, one), count in pairs.items() if one == kind)
    return 2 * pairs[kind, kind] / (drawn + hinted)
