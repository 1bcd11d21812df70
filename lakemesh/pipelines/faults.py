"""A fault of a definition, by its path."""

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True, slots=True)
class Fault:
    """`hint` is worth a look; an `error` keeps the definition from being rendered."""

    path: str
    message: str
    level: Literal["error", "hint"] = "error"

    def __str__(self) -> str:
        return f"{self.path}: {self.message}"
