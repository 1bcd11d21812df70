"""Which version of a prompt is served."""

import hashlib
from collections.abc import Collection, Mapping

from lakemesh.config.prompts import PromptSelection
from lakemesh.errors import NotFound

DEFAULT = PromptSelection()


def choose_version(
    name: str, versions: Collection[int], selection: PromptSelection, sticky_key: str
) -> tuple[int, str]:
    """The version and a label that says how it was chosen. A split wins over a pinned version, that over an alias,
    that over the latest. Raises `NotFound` when the chosen version is not there."""
    if selection.split:
        version, label = split_version(name, selection.split, sticky_key), "split"
    elif selection.version is not None:
        version, label = selection.version, "pinned"
    elif selection.alias is not None:
        version, label = selection.aliases[selection.alias], selection.alias
    else:
        version, label = max(versions), "latest"
    if version not in versions:
        known = ", ".join(map(str, sorted(versions)))
        raise NotFound(f"The prompt {name!r:.60} has no version {version}; it has {known}.")
    return version, label


def split_version(name: str, split: Mapping[int, float], sticky_key: str) -> int:
    """A session always gets the same arm, in every process: its id's hash is a point on the line of the weights."""
    point = fraction(f"{name}:{sticky_key}") * sum(split.values())
    for version, weight in sorted(split.items()):
        point -= weight
        if point < 0:
            return version
    return max(version for version, weight in split.items() if weight)


def fraction(text: str) -> float:
    """A text's place in 0..1, evenly spread."""
    return int.from_bytes(hashlib.blake2b(text.encode(errors="replace"), digest_size=8).digest(), "big") / 2**64
