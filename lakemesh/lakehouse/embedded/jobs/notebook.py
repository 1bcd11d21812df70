"""The process of a notebook: `python -m lakemesh.lakehouse.embedded.jobs.notebook <folder of the run> <task>`.

A notebook is a Python file with cells (`# COMMAND ----------`), some of them magic (`# MAGIC %sql`). It finds
`spark.sql` and `spark.table`, `display`, and of `dbutils` widgets and `notebook.exit`; a Spark it does not find.
"""

import asyncio
import re
import sys
from collections.abc import Iterator, Mapping
from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from lakemesh.errors import LakemeshError
from lakemesh.lakehouse.embedded.jobs.access import open_sql
from lakemesh.lakehouse.embedded.jobs.runs import read_json, write_json
from lakemesh.lakehouse.embedded.jobs.script import die_with_parent
from lakemesh.lakehouse.embedded.jobs.sql import Script
from lakemesh.lakehouse.warehouse import QueryResult

HEADER = re.compile(r"\A(#|--) Databricks notebook source\s*\n?")
PARTING = re.compile(r"^(?:#|--) COMMAND -+\s*$", re.MULTILINE)
MAGIC = re.compile(r"^(?:#|--) MAGIC ?", re.MULTILINE)
SHOWN_ROWS = 20


class Exit(BaseException):
    """`dbutils.notebook.exit`: not to be caught by the notebook's own `except Exception`."""


class Row(tuple[Any, ...]):
    """A row whose values are found by column, too."""

    columns: tuple[str, ...]

    def __getattr__(self, name: str) -> Any:
        if name not in self.columns:
            raise AttributeError(name)
        return self[self.columns.index(name)]

    def asDict(self) -> dict[str, Any]:  # noqa: N802 - Spark's name
        return dict(zip(self.columns, self, strict=True))


@dataclass(frozen=True, slots=True)
class Frame:
    """What `spark.sql` gives: rows that were read."""

    found: QueryResult

    @property
    def columns(self) -> list[str]:
        return list(self.found.columns)

    def collect(self) -> list[Row]:
        return [self._row(values) for values in self.found.rows]

    def first(self) -> Row | None:
        return self._row(self.found.rows[0]) if self.found.rows else None

    def count(self) -> int:
        return len(self.found.rows)

    def show(self, n: int = SHOWN_ROWS) -> None:
        for row in (self.columns, *self.found.rows[:n]):
            show(" | ".join(map(str, row)))

    def toPandas(self) -> Any:  # noqa: N802 - Spark's name
        import pandas

        return pandas.DataFrame(list(self.found.rows), columns=self.columns)

    def _row(self, values: tuple[Any, ...]) -> Row:
        row = Row(values)
        row.columns = tuple(self.found.columns)
        return row


class Notebook:
    def __init__(self, script: Script, runner: asyncio.Runner, widgets: Mapping[str, str]) -> None:
        self._script = script
        self._runner = runner
        self._widgets = dict(widgets)
        self.names: dict[str, Any] = {
            "__name__": "__main__",
            "spark": SimpleNamespace(sql=self.sql, table=lambda name: self.sql(f"SELECT * FROM {name}")),
            "dbutils": self._dbutils(),
            "display": lambda shown: shown.show() if isinstance(shown, Frame) else show(shown),
        }

    def sql(self, text: str) -> Frame:
        return Frame(self._runner.run(self._script.run(text)))

    def run(self, cell: str) -> None:
        magic = MAGIC.sub("", cell).strip() if "MAGIC" in cell else ""
        if magic.startswith("%sql"):
            self.sql(magic.removeprefix("%sql")).show()
        elif not magic or magic.startswith("%python"):
            code = magic.removeprefix("%python") if magic else cell
            exec(compile(code, "notebook", "exec"), self.names)  # noqa: S102 - what a notebook is for
        elif not magic.startswith(("%md", "%pip")):
            raise SystemExit(f"{magic.split()[0]} is not run here; %sql and %python are.")

    def _dbutils(self) -> SimpleNamespace:
        def declare(name: str, default: str = "", *_: Any) -> None:
            self._widgets.setdefault(name, default)

        def leave(value: Any) -> None:
            raise Exit(str(value))

        widgets = SimpleNamespace(
            get=self._widgets.__getitem__, getAll=lambda: dict(self._widgets), text=declare, dropdown=declare
        )
        return SimpleNamespace(widgets=widgets, notebook=SimpleNamespace(exit=leave))


def show(what: Any) -> None:
    """Into the run's log."""
    print(what)  # noqa: T201 - which is what a notebook's output is


def cells_of(source: str) -> Iterator[str]:
    """Of a SQL notebook, each as the magic that it is."""
    is_sql = source.startswith("--")
    for cell in PARTING.split(HEADER.sub("", source)):
        if cell.strip():
            yield f"# MAGIC %sql {cell}" if is_sql and "MAGIC" not in cell else cell


def main(folder: Path, task: str) -> None:
    order = read_json(folder / "order.json") or {}
    widgets = read_json(folder / f"{task}.widgets.json") or {}
    source = (folder / f"{task}.notebook").read_text()
    stack = AsyncExitStack()
    with asyncio.Runner() as runner:
        try:
            script = Script(runner.run(open_sql(order, stack)), widgets)
            notebook = Notebook(script, runner, widgets)
            for cell in cells_of(source):
                notebook.run(cell)
        except Exit as left:
            write_json(folder / f"{task}.json", {"result": str(left)[:5_000_000]})
        except LakemeshError as error:
            raise SystemExit(f"{type(error).__name__}: {error.detail}") from None
        finally:
            runner.run(stack.aclose())


if __name__ == "__main__":
    die_with_parent()
    main(Path(sys.argv[1]), sys.argv[2])
