"""What the benchmarks printed last, as tables for the pages that name them: `<!-- figures: execute doors -->`."""

import json
import re
from pathlib import Path

RESULTS = Path(__file__).parents[1] / "benchmarks/results"
MARK = re.compile(r"<!-- figures: ([\w ]+) -->")


def with_figures(text: str) -> str:
    return MARK.sub(lambda mark: "\n\n".join(table(name) for name in mark[1].split()), text)


def table(name: str) -> str:
    found = json.loads((RESULTS / f"{name}.json").read_text())
    rows = [f"| {row['name']} | {plain(row['value'])} | {row['spread']} | {row['target']} |" for row in found["rows"]]
    head = [
        f"`python -m benchmarks {name}`, {found['measured_at'][:10]}:",
        "",
        "| | median | range | aim |",
        "|---|---|---|---|",
    ]
    return "\n".join([*head, *rows])


def plain(value: float) -> str:
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}"
