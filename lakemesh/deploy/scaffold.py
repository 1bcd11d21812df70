"""A new app: the files of `template/` with its name filled in, the dashboard, and the lakemesh it runs on."""

import json
import re
from collections.abc import Iterator
from importlib.resources import files
from importlib.resources.abc import Traversable
from pathlib import Path

from lakemesh.deploy.lakeview import lakeview
from lakemesh.deploy.wheel import NAME, write_wheel
from lakemesh.errors import InvalidRequest

NAME_PATTERN = re.compile(r"[a-z][a-z0-9]*(-[a-z0-9]+)*")
MAX_NAME = 21
"""Databricks Apps take 30 characters, and `-staging` is added."""

RENAMED = {
    "gitignore": ".gitignore",
    "dockerignore": ".dockerignore",
    "github": ".github",
    "ruff_toml": "ruff.toml",
}
"""Files that would mean something where the template lies, if they had their names there already."""


def make_app(name: str, parent: Path) -> Path:
    """The folder `parent/name` with a working app. Raises `InvalidRequest` for a name or a place that does not do."""
    if not NAME_PATTERN.fullmatch(name) or len(name) > MAX_NAME:
        rule = f"at most {MAX_NAME} lower-case letters and digits, with single hyphens inside, beginning with a letter"
        raise InvalidRequest(f"{name!r:.60} is not a name for an app: it is {rule}.")
    folder = parent / name
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise InvalidRequest(f"{folder} exists and is not empty.")
    for path, content in rendered(name, catalog=name.replace("-", "_")).items():
        file = folder / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(content)
    write_wheel(folder / "wheels")
    return folder


def rendered(name: str, *, catalog: str) -> dict[str, str]:
    """The app's text files by path."""
    words = {"APP_NAME": name, "APP_CATALOG": catalog, "PACKAGE": f"{name.replace('-', '_')}_agents", "WHEEL": NAME}
    found = {}
    for path, content in walk(files("lakemesh.deploy") / "template"):
        place = "/".join(RENAMED.get(part, part) for part in path)
        found[replaced(place, words)] = replaced(content, words)
    return found | {"dashboards/agents.lvdash.json": json.dumps(lakeview(), indent=2) + "\n"}


def walk(folder: Traversable, above: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], str]]:
    for item in sorted(folder.iterdir(), key=lambda item: item.name):
        if item.name.startswith((".", "__pycache__")):
            continue
        if item.is_dir():
            yield from walk(item, (*above, item.name))
        else:
            yield (*above, item.name), item.read_text()


def replaced(text: str, words: dict[str, str]) -> str:
    for placeholder, value in words.items():
        text = text.replace(placeholder, value)
    return text
