"""What the emulator knows besides tables, volumes and vectors: one small JSON file in its home."""

import json
import os
from pathlib import Path
from typing import Any

from lakemesh.emulator.accounts import write_private
from lakemesh.errors import Conflict
from lakemesh.file_lock import FileLock


class State:
    """Sections of plain JSON, which routes change in place. `save` writes the file when anything is new, at once or
    not at all."""

    def __init__(self, home: Path) -> None:
        """Raises `Conflict` when another emulator serves this home: the last to write would win."""
        self._lock = FileLock(home / "emulator.lock")
        if not self._lock.try_acquire():
            raise Conflict(f"Another emulator serves {home}; stop it, or give another --home.")
        self._file = home / "emulator.json"
        self._saved = self._file.read_text() if self._file.exists() else "{}"
        self._sections: dict[str, dict[str, Any]] = json.loads(self._saved)

    def section(self, name: str) -> dict[str, Any]:
        return self._sections.setdefault(name, {})

    def save(self) -> None:
        content = json.dumps(self._sections)
        if content == self._saved:
            return
        written = self._file.with_suffix(".new")
        write_private(written, content)
        os.replace(written, self._file)
        self._saved = content

    def close(self) -> None:
        """Let another emulator have the home."""
        self._lock.release()
