"""Which of many rules may be about something, found by the names in them.

A set of rules is one number: bit `n` stands for the rule at place `n`. What an index answers may hold rules that do
not match after all, since it only looks at how patterns begin; it never leaves out one that does.
"""

from collections.abc import Iterable, Iterator, Sequence


class NameIndex:
    """Rules by the names in their patterns. Names are compared as patterns are: case makes no difference."""

    def __init__(self) -> None:
        self._whole: dict[str, int] = {}
        self._beginnings: dict[str, int] = {}
        self._lengths: tuple[int, ...] = ()
        self._all = 0

    def add(self, place: int, patterns: Sequence[str]) -> None:
        for pattern in patterns:
            beginning, star, _ = pattern.lower().partition("*")
            if not beginning.isascii():  # letters of other scripts have several forms
                beginning, star = "", "*"
            of_kind = self._beginnings if star else self._whole
            of_kind[beginning] = of_kind.get(beginning, 0) | 1 << place
            self._all |= 1 << place
        self._lengths = tuple(sorted({len(beginning) for beginning in self._beginnings}))

    def of(self, names: Iterable[str]) -> int:
        """The rules with a pattern that one of these names may match."""
        found = 0
        for name in names:
            if not name.isascii():
                return self._all
            name = name.lower()
            found |= self._whole.get(name, 0)
            for length in self._lengths:
                found |= self._beginnings.get(name[:length], 0)
        return found


def places(rules: int) -> Iterator[int]:
    """The places of the rules in a set, the first first."""
    while rules:
        lowest = rules & -rules
        yield lowest.bit_length() - 1
        rules ^= lowest
