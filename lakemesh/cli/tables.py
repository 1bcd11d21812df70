"""Rows in a terminal: as a table where they fit, one below the other where they do not."""

from collections.abc import Mapping, Sequence
from typing import Any

from rich.console import Console
from rich.table import Table

LEAST_WIDTH = 12
"""Characters a column may be cut to before the rows are better told one by one; a narrower one is never cut."""


def print_rows(
    rows: Sequence[Mapping[str, Any]], columns: Sequence[str], *, names: Mapping[str, str] | None = None
) -> None:
    """The columns of each row, under other names where `names` has one."""
    titles = [(names or {}).get(column, column) for column in columns]
    print_cells(titles, [[row.get(column) for column in columns] for row in rows])


def print_cells(columns: Sequence[str], rows: Sequence[Sequence[Any]]) -> None:
    console = Console(highlight=False)
    texts = [["" if cell is None else str(cell) for cell in row] for row in rows]
    if fits(columns, texts, console.width):
        table = Table(*columns, box=None, pad_edge=False, header_style="bold")
        for column, kind in zip(table.columns, zip(*rows, strict=True), strict=False):
            column.overflow = "fold"
            column.justify = "right" if all(is_number(cell) for cell in kind) else "left"
        for row in texts:
            table.add_row(*row)
        console.print(table)
    else:
        print_expanded(columns, texts, console)


def fits(columns: Sequence[str], rows: Sequence[Sequence[str]], width: int) -> bool:
    """Whether every column gets its name and enough of its cells to be read."""
    needed = 0
    for place, column in enumerate(columns):
        longest = max((len(row[place]) for row in rows), default=0)
        needed += max(len(column), min(longest, LEAST_WIDTH)) + 2
    return needed - 2 <= width


def print_expanded(columns: Sequence[str], rows: Sequence[Sequence[str]], console: Console) -> None:
    """Each row as lines of a name and a value; what is null or empty is left out."""
    widest = max(map(len, columns))
    for number, row in enumerate(rows, 1):
        console.print(f"row {number} " + "-" * max(0, min(console.width, 80) - len(str(number)) - 5), style="dim")
        for column, cell in zip(columns, row, strict=True):
            if cell:
                console.print(f"{column:<{widest}}  {cell}", markup=False, soft_wrap=True)


def is_number(cell: Any) -> bool:
    return isinstance(cell, int | float) and not isinstance(cell, bool)
