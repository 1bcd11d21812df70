"""The files of an app that go to the workspace."""

import fnmatch
import hashlib
from collections.abc import Iterable, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import yaml

from lakemesh.errors import ConfigurationInvalid

NEVER = (".git", ".lakemesh", ".venv", "__pycache__", ".databricks", ".pytest_cache", ".ruff_cache", ".mypy_cache")
MAX_FILE_BYTES = 10 * 1024 * 1024
MAX_FILES = 2_000


class Source:
    """What `folder` holds, without what `.gitignore` or the bundle's `sync.exclude` name and what is never source.
    `app.yaml` is written from the bundle's `config`, which differs between targets."""

    def __init__(self, folder: Path, config: dict[str, Any], *, exclude: Sequence[str] = ()) -> None:
        self._folder = folder
        self._config = config
        self._exclude = exclude

    def files(self) -> dict[str, bytes]:
        """Contents by path. Raises `ConfigurationInvalid` for what the platform does not take."""
        ignored = (*NEVER, *ignore_patterns(self._folder), *self._exclude)
        found = {
            path.relative_to(self._folder).as_posix(): path
            for path in sorted(self._folder.rglob("*"))
            if path.is_file() and not is_ignored(path.relative_to(self._folder), ignored)
        }
        large = [name for name, path in found.items() if path.stat().st_size > MAX_FILE_BYTES]
        if large or len(found) > MAX_FILES:
            fault = (
                f"{large[0]}: larger than 10 MB, which Apps do not take" if large else f"more than {MAX_FILES} files"
            )
            raise ConfigurationInvalid([f"{fault}; name what is not source in .gitignore"])
        contents = {name: path.read_bytes() for name, path in found.items()}
        if self._config:
            contents["app.yaml"] = app_yaml(self._config)
        return contents

    @cached_property
    def digest(self) -> str:
        listed = "".join(f"{digest} {name}\n" for name, digest in sorted(self.digests().items()))
        return hashlib.sha256(listed.encode()).hexdigest()

    def digests(self) -> dict[str, str]:
        """SHA-256 by path."""
        return {name: hashlib.sha256(content).hexdigest() for name, content in self.files().items()}


def app_yaml(config: dict[str, Any]) -> bytes:
    """The bundle writes `value_from` where the file writes `valueFrom`."""
    entries = [
        {"valueFrom" if key == "value_from" else key: value for key, value in entry.items()}
        for entry in config.get("env") or ()
    ]
    return yaml.safe_dump({"command": config.get("command"), "env": entries}, sort_keys=False).encode()


def ignore_patterns(folder: Path) -> list[str]:
    file = folder / ".gitignore"
    lines = file.read_text().splitlines() if file.is_file() else []
    return [line.strip() for line in lines if line.strip() and not line.startswith("#")]


def is_ignored(path: Path, patterns: Iterable[str]) -> bool:
    """As gitignore has it: a pattern with a slash before its end says where from the top, another means any part of the
    path; what is below an ignored folder is ignored."""
    above = [parent.as_posix() for parent in (path, *path.parents)][:-1]
    for pattern in patterns:
        bare = pattern.rstrip("/").removesuffix("/**").strip("/")
        anchored = "/" in pattern.rstrip("/")
        if any(fnmatch.fnmatchcase(place, bare) for place in (above if anchored else path.parts)):
            return True
    return False
