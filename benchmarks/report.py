"""How every benchmark tells its result: a table for people, a JSON file for comparison."""

import json
import os
import platform
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from rich.console import Console
from rich.table import Table

RESULTS = Path(__file__).parent / "results"


@dataclass(frozen=True, slots=True)
class Row:
    """One figure. `target` says what it is held to, such as `>= 0.6`; `spread` its range over the rounds."""

    name: str
    value: float
    target: str = ""
    spread: str = ""

    @property
    def met(self) -> bool | None:
        """Whether the target is met; None without one."""
        if not self.target:
            return None
        relation, _, bound = self.target.partition(" ")
        return self.value >= float(bound) if relation == ">=" else self.value <= float(bound)


def report(name: str, title: str, rows: Sequence[Row]) -> None:
    """Print the table and write `benchmarks/results/<name>.json`."""
    table = Table("", "median", "range", "target", "", title=title)
    for row in rows:
        verdict = "" if row.met is None else "met" if row.met else "MISSED"
        table.add_row(row.name, f"{row.value:,.3f}".rstrip("0").rstrip("."), row.spread, row.target, verdict)
    Console().print(table)
    RESULTS.mkdir(exist_ok=True)
    content = {
        "benchmark": name,
        "measured_at": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        "machine": {"cores": os.cpu_count(), "system": platform.system(), "python": platform.python_version()},
        "rows": [asdict(row) | {"met": row.met} for row in rows],
    }
    (RESULTS / f"{name}.json").write_text(json.dumps(content, indent=2) + "\n")
