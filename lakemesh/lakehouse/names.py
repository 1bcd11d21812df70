"""Names and paths from outside, checked before anything is done with them."""

import re
from pathlib import PurePosixPath

from lakemesh.errors import InvalidRequest

PART = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_-]{0,254}")
MAX_PATH_LENGTH = 1_024


def split_name(name: str, levels: int = 3) -> tuple[str, ...]:
    """The parts of `catalog.schema.object`, lower-case as Unity Catalog keeps them. Raises `InvalidRequest`."""
    parts = tuple(part.strip("`").lower() for part in name.split("."))
    if len(parts) != levels or not all(PART.fullmatch(part) for part in parts):
        shape = ".".join(("catalog", "schema", "object")[:levels])
        raise InvalidRequest(f"{name!r:.100} is not a name of the form {shape}.")
    return parts


def split_volume_path(path: str) -> tuple[tuple[str, str, str], PurePosixPath]:
    """The volume of `/Volumes/catalog/schema/volume/...` and the path inside it. Raises `InvalidRequest` for any
    other form, and for one that steps upwards or hides control characters."""
    fault = InvalidRequest(f"{path!r:.200} is not a path of the form /Volumes/catalog/schema/volume/...")
    if len(path) > MAX_PATH_LENGTH or not path.isprintable() or "\\" in path:
        raise fault
    parts = path.split("/")
    if len(parts) < 5 or parts[:2] != ["", "Volumes"]:
        raise fault
    volume, inside = parts[2:5], [part for part in parts[5:] if part]
    if not all(PART.fullmatch(part) for part in volume) or any(part in (".", "..") for part in inside):
        raise fault
    return (volume[0], volume[1], volume[2]), PurePosixPath(*inside)
