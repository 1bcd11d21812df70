"""Which keys a running server takes, and which it reads once, when it starts.

The documentation lists what `NEEDS_RESTART` lists, `lakemesh config check` names it, and `/health/ready` says which of
these keys changed since the start.
"""

from collections.abc import Iterator, Mapping, Sequence
from fnmatch import fnmatchcase
from typing import Any

from pydantic import BaseModel

NEEDS_RESTART = (
    "a2a.default_skill",
    "a2a.enabled",
    "a2a.max_*",
    "a2a.public_url",
    "a2a.push_to_private",
    "a2a.signing_key*",
    "a2a.task_ttl_seconds",
    "audit.*",
    "console.*",
    "mcp.enabled",
    "mcp.key",
    "memory.*",
    "models.embedding_dimension",
    "telemetry.*",
)
LIVE = ("telemetry.capture_content*",)
"""Exceptions to the patterns above."""


def needs_restart(key: str) -> bool:
    """Whether a change of this key waits for the next start."""
    return matches(key, NEEDS_RESTART) and not matches(key, LIVE)


def matches(key: str, patterns: Sequence[str]) -> bool:
    return any(fnmatchcase(key, pattern) for pattern in patterns)


def waiting_for_restart(started_with: BaseModel, current: BaseModel) -> list[str]:
    """The keys that differ between the two and are not in force before the next start."""
    before, now = flat(started_with.model_dump()), flat(current.model_dump())
    return sorted(key for key in before | now if before.get(key) != now.get(key) and needs_restart(key))


def flat(sections: Mapping[str, Any]) -> dict[str, Any]:
    """Nested mappings as one, by dotted keys."""
    return dict(leaves(sections, ""))


def leaves(value: Any, path: str) -> Iterator[tuple[str, Any]]:
    if isinstance(value, Mapping) and value:
        for key, item in value.items():
            yield from leaves(item, f"{path}.{key}" if path else str(key))
    else:
        yield path, value
