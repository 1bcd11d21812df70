"""Files in the workspace's own tree (`/Workspace/...`), and Git folders in it."""

from typing import Protocol


class WorkspaceFiles(Protocol):
    """A path that is not there raises `NotFound`. Folders above a file are made with it."""

    async def read(self, path: str) -> bytes: ...

    async def write(self, path: str, content: bytes) -> None:
        """Written over what is there."""
        ...

    async def list_files(self, folder: str) -> list[str]:
        """Every file below, sorted; none when the folder is not there."""
        ...

    async def delete(self, path: str) -> None:
        """A file, or a folder with all that is in it; nothing when it is not there."""
        ...


class GitFolders(Protocol):
    """Checked-out repositories in the workspace ("Git folders", the Repos API)."""

    async def check_out(self, path: str, *, url: str, provider: str, branch: str) -> str:
        """Have the folder at `path` hold `branch` as it is at the remote now; the commit it is at. It is made when it
        is not there. Raises `Conflict` when it holds another repository."""
        ...
