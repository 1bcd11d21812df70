"""Names and paths in rules: brought to one form first, then compared with patterns."""

import posixpath
import re
from collections.abc import Callable, Sequence
from urllib.parse import unquote

from lakemesh.errors import InvalidRequest

MAX_RESOURCE_CHARACTERS = 1_024
HIDDEN = re.compile(r"[\x00-\x1f\x7f\\]")
LEVEL = re.compile(r"`((?:[^`]|``)*)`|([^.`]+)")


def normalized(resource: str) -> str:
    """One form for every way to write a table or a path: paths without `.`, `..`, doubled slashes and escapes, tables
    in lower case and without quotes. Raises `InvalidRequest` for what has no such form."""
    if len(resource) > MAX_RESOURCE_CHARACTERS or HIDDEN.search(resource):
        raise InvalidRequest("A name holds characters that no table and no path has, or is too long.")
    for scheme in ("dbfs:", "file:"):
        resource = resource.removeprefix(scheme)
    if "/" in resource:
        return normalized_path(resource)
    return ".".join(level_of(match) for match in LEVEL.finditer(resource.strip())).lower()


def normalized_path(path: str) -> str:
    if unquote(path) != path:
        raise InvalidRequest("A path is written without percent signs.")
    if not path.startswith("/"):
        raise InvalidRequest("A path is absolute: it begins with a slash.")
    return posixpath.normpath(re.sub("/+", "/", path))


def level_of(match: re.Match[str]) -> str:
    quoted, plain = match.groups()
    return quoted.replace("``", "`") if quoted is not None else plain.strip()


def matcher(patterns: Sequence[str]) -> Callable[[str], bool]:
    """Whether a name is one of these: `*` stands for anything up to the next dot or slash, `**` for anything."""
    if not patterns:
        return lambda name: False
    if "**" in patterns:
        return lambda name: True
    whole = re.compile("|".join(expression_of(pattern) for pattern in patterns), re.IGNORECASE | re.DOTALL)
    return lambda name: whole.fullmatch(name) is not None


def expression_of(pattern: str) -> str:
    stop = "/" if pattern.startswith("/") else "."
    parts = re.split(r"(\*\*|\*)", pattern)
    anything = {"**": ".*", "*": rf"[^{re.escape(stop)}]*"}
    return "".join(anything.get(part) or re.escape(part) for part in parts)
