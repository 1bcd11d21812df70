"""What the emulator knows besides tables, volumes and vectors: one small JSON file in its home."""

import json
import os
from pathlib import Path
from typing import Any


class State:
    """Sections of plain JSON, which routes change in place. `save` writes the file when anything is new, at once or
    not at all."""

    def __init__(self, home: Path) -> None:
        self._file = home / "emulator.json"
        self._saved = self._file.read_text() if self._file.exists() else "{}"
        self._sections: dict[str, dict[str, Any]] = json.loads(self._saved)

    def section(self, name: str) -> dict[str, Any]:
        return self._sections.setdefault(name, {})

    def save(self) -> None:
        content = json.dumps(self._sections)
        if content == self._saved:
            return
        self._file.parent.mkdir(parents=True, exist_ok=True)
        written = self._file.with_suffix(".new")
        written.write_text(content)
        os.replace(written, self._file)
        self._saved = content
