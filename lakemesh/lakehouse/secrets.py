"""Secrets, read by scope and key."""

from typing import Protocol


class Secrets(Protocol):
    async def get(self, scope: str, key: str) -> str:
        """The secret as text. Raises `NotFound`, and `PermissionDenied` when it may not be read."""
        ...
