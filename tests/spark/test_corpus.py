"""Every statement of the corpus means in the embedded warehouse what it means in Spark, or is refused by name."""

import os
from collections import Counter
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from lakemesh.lakehouse.arrow import rows_to_arrow
from lakemesh.lakehouse.embedded import open_workspace
from lakemesh.lakehouse.tables import TableSpec
from lakemesh.lakehouse.workspace import Workspace
from tests.spark.answers import kept
from tests.spark.compared import verdict
from tests.spark.corpus import COLUMNS, SCHEMA, cases, rows

pytestmark = pytest.mark.anyio

DOCS = Path(__file__).parents[2] / "docs/sql.md"
LEAST_SAME = 0.98
BEGIN, END = "<!-- corpus: begin -->", "<!-- corpus: end -->"


@pytest.fixture
async def corpus(tmp_path: Path) -> AsyncIterator[Workspace]:
    workspace = await open_workspace(tmp_path)
    for name, content in rows().items():
        await workspace.tables.create(TableSpec(name=f"{SCHEMA}.{name}", columns=COLUMNS[name]))
        await workspace.tables.append(f"{SCHEMA}.{name}", rows_to_arrow(COLUMNS[name], content))
    yield workspace
    await workspace.close()


async def test_the_corpus_is_answered_as_spark_answers_or_refused_by_name(corpus: Workspace) -> None:
    answers, counts, refused, wrong = kept(), Counter[tuple[str, str]](), [], []
    for case in cases():
        found, why = await verdict(corpus, case.statement, answers[case.statement])
        counts[case.place.partition(":")[0], found] += 1
        if found == "refused":
            refused.append(case.statement)
        elif found == "differs":
            wrong.append((case.place, case.statement, why))
    assert wrong == []
    total = sum(counts.values())
    assert total >= 400
    assert 1 - len(refused) / total >= LEAST_SAME
    check_documented(table(counts, refused))


def table(counts: Counter[tuple[str, str]], refused: list[str]) -> str:
    files = sorted({file for file, _ in counts})
    lines = ["| statements about | same as Spark | different | refused by name |", "|---|---|---|---|"]
    for name, key in [*((file.removesuffix(".sql"), file) for file in files), ("all", "")]:
        figures = [
            sum(count for (file, found), count in counts.items() if found == kind and key in (file, ""))
            for kind in ("same", "differs", "refused")
        ]
        lines.append(f"| {name} | {' | '.join(map(str, figures))} |")
    listed = "\n".join(f"- `{statement}`" for statement in sorted(refused))
    return "\n".join(lines) + f"\n\nRefused by name:\n\n{listed}\n"


def check_documented(made: str) -> None:
    """The table in the docs is this one; LAKEMESH_WRITE_DOCS=1 writes it."""
    text = DOCS.read_text()
    before, _, rest = text.partition(BEGIN)
    _, _, after = rest.partition(END)
    wanted = f"{before}{BEGIN}\n\n{made}\n{END}{after}"
    if os.environ.get("LAKEMESH_WRITE_DOCS"):
        DOCS.write_text(wanted)
        return
    assert text == wanted, "docs/sql.md is not what was measured; write it with LAKEMESH_WRITE_DOCS=1"
