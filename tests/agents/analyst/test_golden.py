"""The demo's questions on a real server: each answer is compared with pandas, to the row."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import pandas
import pyarrow
import pytest

from lakemesh.jobs.analyst_data import generate
from lakemesh.jobs.analyst_questions import QUESTIONS, TIMES, Ask, Expected, answer_of, matches
from tests.agents.analyst.demo_server import ask, demo_server
from tests.server import Server

TABLES = generate()


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with demo_server(tmp_path_factory.mktemp("analyst")) as running:
        yield running


def by_pandas(expected: Expected, tables: Mapping[str, pyarrow.Table]) -> dict[tuple[Any, ...], float]:
    frame = tables[expected.table].to_pandas()
    if "product_id" in frame:
        frame = frame.merge(tables["products"].to_pandas(), on="product_id")
    moment = frame[TIMES[expected.table]]
    start, end = (pandas.Timestamp(day, tz="UTC") for day in (expected.start, expected.end))
    frame = frame[(moment >= start) & (moment < end)]
    for name, values in expected.where.items():
        frame = frame[frame[name].isin(values)]
    for name, values in expected.without.items():
        frame = frame[~frame[name].isin(values)]
    frame = frame.assign(period=frame[TIMES[expected.table]].astype(str).str[: expected.period], one=1)
    for name, value in expected.share_of.items():
        frame = frame.assign(one=(frame[name] == value).astype(float))
    how: Any = {"distinct": "nunique"}.get(expected.how, expected.how)
    column = expected.column or "one"
    if expected.share_of:
        how = "mean"
    keys = [*(["period"] if expected.period else []), *expected.by]
    if not keys:
        return {(): float(frame[column].agg(how))}
    found = frame.groupby(keys)[column].agg(how)
    if expected.above is not None:
        found = found[found > expected.above]
    if expected.top is not None:
        found = found.sort_values(ascending=expected.least).head(expected.top)
    return {key if isinstance(key, tuple) else (key,): float(value) for key, value in found.items()}


def given(rows: Sequence[Sequence[Any]], expected: Expected) -> dict[tuple[Any, ...], float]:
    cut = [([str(row[0])[: expected.period], *row[1:]] if expected.period else list(row)) for row in rows]
    assert len({tuple(row[:-1]) for row in cut}) == len(cut)
    return {tuple(row[:-1]): row[-1] for row in cut}


@pytest.mark.parametrize("asked", QUESTIONS, ids=lambda one: one.question)
def test_every_question_is_right_to_the_row_or_refused(server: Server, asked: Ask) -> None:
    response = ask(server, asked.question, asked.session)
    assert response.status_code == 200, response.text
    result = response.json()["result"]
    if not asked.expected:
        assert result["status"] == "refused", result
        assert not result["answers"]
        return
    assert result["status"] == "answered", result["text"]
    assert len(result["answers"]) == len(asked.expected), result["text"]
    for expected in asked.expected:
        right = by_pandas(expected, TABLES)
        wanted = [one for one in result["answers"] if matches(expected, one["rows"], TABLES)]
        assert wanted, (expected, [one["rows"] for one in result["answers"]], right)
        assert given(wanted[0]["rows"], expected) == pytest.approx(right)
        assert {tuple(row[:-1]): row[-1] for row in answer_of(expected, TABLES)} == pytest.approx(right)
        assert wanted[0]["sql"].startswith("SELECT")
        assert wanted[0]["chart"]["title"]
