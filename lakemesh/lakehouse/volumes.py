"""Files in Unity Catalog volumes."""

from dataclasses import dataclass
from typing import Protocol


@dataclass(frozen=True, slots=True, kw_only=True)
class VolumeEntry:
    """One file or folder. `path` is absolute (`/Volumes/...`); `modified_at` is Unix seconds."""

    path: str
    name: str
    is_directory: bool
    size_bytes: int
    modified_at: float


class Volumes(Protocol):
    """Paths are absolute: `/Volumes/<catalog>/<schema>/<volume>/<path>`. A path that is not, or that steps out
    of its volume, raises `InvalidRequest`; one that does not exist raises `NotFound`; a volume that cannot be
    reached raises `WorkspaceUnavailable`."""

    async def read(self, path: str) -> bytes:
        """The whole file."""
        ...

    async def write(self, path: str, content: bytes, *, overwrite: bool = False) -> None:
        """Write the whole file at once (a reader sees the old or the new content, never a part), making
        folders as needed. Without `overwrite` an existing file raises `Conflict`."""
        ...

    async def list_directory(self, path: str) -> list[VolumeEntry]:
        """What lies directly in the folder, by name."""
        ...

    async def delete(self, path: str) -> None:
        """Remove one file."""
        ...

    async def delete_directory(self, path: str) -> None:
        """Remove one folder. Raises `Conflict` when something is in it."""
        ...
