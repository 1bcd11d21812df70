"""The golden set: a request, a change or a definition gives the graph that was meant, and code that passes the gate."""

import pytest

from lakemesh.errors import LakemeshError
from lakemesh.pipelines.diff import diff
from lakemesh.pipelines.documents import build
from lakemesh.pipelines.gate import judge
from lakemesh.pipelines.graph import graph_of
from lakemesh.pipelines.record import record
from tests.pipelines.golden import Case, difference, held_out, load_cases

CASES = load_cases()
LEAST = 0.95


def fault_of(case: Case) -> str | None:
    """Why the answer is not the one that was meant."""
    try:
        definition = case.definition()
        files = build(definition)
    except LakemeshError as error:
        wanted = case.content.get("refused")
        return None if error.code == wanted else f"{error.code}: {error.detail}"
    if "refused" in case.content:
        return "it was not refused"
    code = {path: text for path, text in files.items() if path.startswith("transformations/")}
    if refusals := [refusal for text in code.values() for refusal in judge(text)]:
        return f"the gate refuses it: {refusals[0]}"
    if record(code) != graph_of(definition):
        return "the code's graph is not the definition's"
    destructive = case.before is not None and any(change.destructive for change in diff(case.before, definition))
    if destructive != case.content.get("destructive", False):
        return f"destructive: {destructive}"
    return difference(case, definition)


TUNED = [case for case in CASES if case not in held_out(CASES)]


@pytest.mark.parametrize("case", TUNED, ids=[case.id for case in TUNED])
def test_a_request_gives_the_graph_that_was_meant(case: Case) -> None:
    assert fault_of(case) is None


def test_of_those_that_nobody_tuned_on_and_of_all_enough_are_right() -> None:
    for cases in (held_out(CASES), CASES):
        faults = {case.id: fault for case in cases if (fault := fault_of(case))}
        assert 1 - len(faults) / len(cases) >= LEAST, faults


def test_the_set_is_what_it_should_be() -> None:
    assert len(CASES) == 80
    assert len(held_out(CASES)) == 20
    assert len({case.id.partition("-")[0] for case in CASES}) == 8
