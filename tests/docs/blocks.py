"""The fenced blocks of a page."""

import re
import shlex
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[2]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md")), *sorted((ROOT / "examples").glob("**/README.md"))]
FENCED = re.compile(r"^```(\w*)(?: +title=\"([^\"]+)\")?[^\n]*\n(.*?)^```", re.MULTILINE | re.DOTALL)
SHELL = ("sh", "console", "bash")


@dataclass(frozen=True, slots=True)
class Block:
    page: Path
    language: str
    title: str
    text: str
    line: int

    def __str__(self) -> str:
        return f"{self.page.relative_to(ROOT)}:{self.line}"

    @property
    def commands(self) -> list[str]:
        """Lines of a shell, whole: continued ones joined, prompts, comments and what was printed left out."""
        text = self.text.replace("\\\n", " ")
        if self.language == "console":
            text = "\n".join(line[2:] for line in text.splitlines() if line.startswith("$ "))
        return [line for line in joined(text.splitlines()) if line.strip() and not line.strip().startswith("#")]


def joined(lines: list[str]) -> list[str]:
    """Lines whose quotes go on to the next one are one."""
    found: list[str] = []
    for line in lines:
        if found and is_open(found[-1]):
            found[-1] += f"\n{line}"
        else:
            found.append(line)
    return found


def is_open(line: str) -> bool:
    try:
        shlex.split(line, comments=True)
    except ValueError:
        return True
    return False


def blocks_of(page: Path, *languages: str) -> list[Block]:
    text = page.read_text()
    return [
        Block(page, found[1], found[2] or "", found[3], text.count("\n", 0, found.start()) + 1)
        for found in FENCED.finditer(text)
        if found[1] in languages
    ]


def every(*languages: str) -> list[Block]:
    return [block for page in PAGES for block in blocks_of(page, *languages)]
