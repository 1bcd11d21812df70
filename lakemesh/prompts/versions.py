"""Which version of a prompt is served."""

import hashlib
from collections.abc import Collection, Mapping

from lakemesh.config.prompts import PromptSelection
from lakemesh.errors import NotFound

DEFAULT = PromptSelection()


def choose_version(
    name: str, versions: Collection[int], selection: PromptSelection, session_id: str | None
) -> tuple[int, str]:
    """The version and a label that says how it was chosen. A split wins over a pinned version, that over an alias,
    that over the latest. Raises `NotFound` when the chosen version is not there.

    Rolling back is pointing the alias, or the pin, at an older number in the configuration: files never change.
    """
    if selection.split:
        version, label = split_version(name, selection.split, session_id), "split"
    elif selection.version is not None:
        version, label = selection.version, "pinned"
    elif selection.alias is not None:
        if selection.alias not in selection.aliases:
            raise NotFound(f"The prompt {name!r:.60} has no alias {selection.alias!r:.60} in the configuration.")
        version, label = selection.aliases[selection.alias], selection.alias
    else:
        version, label = max(versions), "latest"
    if version not in versions:
        known = ", ".join(map(str, sorted(versions)))
        raise NotFound(f"The prompt {name!r:.60} has no version {version}; it has {known}.")
    return version, label


def split_version(name: str, split: Mapping[int, float], session_id: str | None) -> int:
    """A session always gets the same arm, in every process: its id's hash is a point on the line of the weights."""
    total = sum(split.values())
    point = fraction(f"{name}:{session_id or ''}") * total
    for version, weight in sorted(split.items()):
        point -= weight
        if point < 0:
            return version
    return max(split)


def fraction(text: str) -> float:
    """A text's place in 0..1, evenly spread."""
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest(), "big") / 2**64
