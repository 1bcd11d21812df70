"""What the gate says of any text, before a parser sees it, and how it refuses."""

import re
from dataclasses import dataclass

MAX_BYTES = 500_000


@dataclass(frozen=True, slots=True)
class Refusal:
    """`rule` is stable; `line` counts from 1."""

    rule: str
    line: int
    message: str

    def __str__(self) -> str:
        return f"line {self.line}: {self.message} [{self.rule}]"


def fault_of_text(code: str) -> Refusal | None:
    """What makes a text read otherwise than it is run: before any parser sees it."""
    if len(code.encode("utf-8", "replace")) > MAX_BYTES:
        return Refusal("size", 1, f"it is longer than {MAX_BYTES:,} bytes")
    for number, line in enumerate(code.split("\n"), 1):
        if not line.replace("\t", " ").isprintable():
            return Refusal("characters", number, "it holds a control or invisible character")
        if number <= 2 and re.match(r"[ \t\f]*#.*?coding[:=]", line):
            return Refusal("coding", number, "it declares an encoding")
        if not line.isascii() and not identifiers_are_ascii(line):
            return Refusal("characters", number, "a character outside of ASCII stands outside of text and comments")
    return None


def identifiers_are_ascii(line: str) -> bool:
    """Python reads compatibility characters in names as their plain forms; here they only stand in text."""
    bare = re.sub(r'"(?:[^"\\]|\\.)*"|\'(?:[^\'\\]|\\.)*\'|#.*', "", line)
    return bare.isascii() or '"""' in line or "'''" in line
