"""Numbers in a text, held against rows: which are there, and which nobody counted.

A number is supported when it is a cell, or the sum, mean, share, ratio, difference or change of cells of one column,
rounded as it is written; or a number of rows, or one of the question. A number in words is one too.
"""

import re
from collections.abc import Iterator, Sequence
from itertools import islice, permutations
from typing import Any

SENTENCE = re.compile(r"(?<=[.!?])\s+(?=[^\s\d])|\n+")
NUMBER = re.compile(r"[-\u2212]?\d[\d,\u202f']*(?:\.\d+)?(?:e[+-]?\d+)?|[-\u2212]?\.\d+")
SCALE = re.compile(r"^\s?(thousand|million|billion|bn|k|m)\b", re.IGNORECASE)
SCALES = {"thousand": 1e3, "k": 1e3, "million": 1e6, "m": 1e6, "billion": 1e9, "bn": 1e9}
WORDS = {
    word: float(number)
    for number, word in enumerate(
        """zero one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen sixteen
        seventeen eighteen nineteen twenty""".split()  # noqa: SIM905
    )
    if number > 1
} | {"thirty": 30.0, "forty": 40.0, "fifty": 50.0, "sixty": 60.0, "seventy": 70.0, "eighty": 80.0, "ninety": 90.0,
     "hundred": 100.0, "thousand": 1e3, "million": 1e6, "billion": 1e9, "dozen": 12.0, "twice": 2.0, "double": 2.0,
     "doubled": 2.0, "thrice": 3.0, "triple": 3.0, "tripled": 3.0, "half": 0.5, "halved": 0.5,
     "quarter": 0.25}  # fmt: skip
WORD = re.compile(r"[^\W\d_]+")
MAX_CELLS = 60
"""Of a column, in pairs; a difference of any two of many would support almost any number."""


def unsupported(text: str, tables: Sequence[Sequence[Sequence[Any]]], question: str) -> list[str]:
    """The sentences of `text` that say a number which neither the rows of the tables nor the question support."""
    known = sorted(supported(tables, question))
    return [
        sentence
        for sentence in SENTENCE.split(text)
        if any(not holds(value, step, known) for value, step in numbers_in(sentence))
    ]


def numbers_in(text: str) -> Iterator[tuple[float, float]]:
    """Each number with the step it is rounded to."""
    for match in NUMBER.finditer(text):
        plain = re.sub(r"[,\u202f']", "", match.group()).replace("\u2212", "-")
        try:
            value = float(plain)
        except ValueError:
            continue
        decimals = len(plain.partition(".")[2]) if "e" not in plain else 0
        step = 10.0**-decimals
        if scale := SCALE.match(text[match.end() :]):
            factor = SCALES[scale.group(1).lower()]
            value, step = value * factor, step * factor
        yield value, step
    scaled = {match.end() for match in NUMBER.finditer(text)}
    for word in WORD.finditer(text.lower()):
        if word.group() in WORDS and not (word.group() in SCALES and word.start() - 1 in scaled):
            if word.group() == "quarter" and not re.search(r"\b(a|one|three) $", text.lower()[: word.start()]):
                continue
            yield WORDS[word.group()], 1e-9


def holds(value: float, step: float, known: Sequence[float]) -> bool:
    from bisect import bisect_left

    slack = step * 0.5 + abs(value) * 1e-9
    for wanted in (value, -value):
        place = bisect_left(known, wanted - slack)
        if place < len(known) and known[place] <= wanted + slack:
            return True
    return False


def supported(tables: Sequence[Sequence[Sequence[Any]]], question: str) -> set[float]:
    found = {value for value, _ in numbers_in(question)}
    for rows in tables:
        found.add(float(len(rows)))
        for column in zip(*rows, strict=True) if rows else ():
            found |= set(of_column(column))
    return found


def of_column(column: Sequence[Any]) -> Iterator[float]:
    """What can be told from a column: of numbers themselves and what follows from them, of texts (such as days) the
    numbers in them."""
    cells = [float(cell) for cell in column if isinstance(cell, int | float) and not isinstance(cell, bool)]
    for cell in column:
        if isinstance(cell, str):
            parts = re.split(r"[-T:]", cell) if re.match(r"\d{4}-\d\d", cell) else [cell]
            yield from (value for part in parts for value, _ in numbers_in(part))
    yield from cells
    if len(cells) < 2:
        return
    total = sum(cells)
    yield from (total, total / len(cells))
    if total:
        yield from (100 * cell / total for cell in cells)
    for one, other in islice(permutations(cells[:MAX_CELLS], 2), MAX_CELLS * MAX_CELLS):
        yield one - other
        if other:
            yield from (one / other, 100 * one / other, 100 * (one - other) / other)
