"""Volumes as folders."""

import asyncio
import errno
import os
import tempfile
from collections.abc import Mapping
from pathlib import Path

from lakemesh.errors import Conflict, InvalidRequest, NotFound, WorkspaceUnavailable
from lakemesh.lakehouse.names import split_volume_path
from lakemesh.lakehouse.volumes import VolumeEntry

MAX_NAME_BYTES = 255


class FolderVolumes:
    """`root/catalog/schema/volume`, except for the volumes that `mounts` lays elsewhere
    (`/Volumes/catalog/schema/volume` → folder)."""

    def __init__(self, root: Path, mounts: Mapping[str, Path]) -> None:
        self._root = root
        self._mounts = {split_volume_path(path)[0]: folder.resolve() for path, folder in mounts.items()}

    async def read(self, path: str) -> bytes:
        return await asyncio.to_thread(self._read, path)

    async def write(self, path: str, content: bytes, *, overwrite: bool = False) -> None:
        await asyncio.to_thread(self._write, path, content, overwrite)

    async def list_directory(self, path: str) -> list[VolumeEntry]:
        return await asyncio.to_thread(self._list, path)

    async def delete(self, path: str) -> None:
        await asyncio.to_thread(self._delete, path)

    async def delete_directory(self, path: str) -> None:
        await asyncio.to_thread(self._delete_directory, path)

    def _locate(self, path: str) -> Path:
        """The file on disk. A link that leads out of the volume is refused like any other way out of it."""
        volume, inside = split_volume_path(path)
        root = self._mounts.get(volume, self._root.joinpath(*volume)).resolve()
        located = root.joinpath(inside)
        if any(len(part.encode()) > MAX_NAME_BYTES for part in inside.parts):
            raise InvalidRequest(f"{path!r:.200} has a name longer than {MAX_NAME_BYTES} bytes.")
        try:
            stays = located.resolve().is_relative_to(root)
        except RuntimeError:  # links that lead to each other
            stays = False
        if not stays:
            raise InvalidRequest(f"{path!r:.200} leads out of its volume.")
        return located

    def _read(self, path: str) -> bytes:
        try:
            return self._locate(path).read_bytes()
        except (FileNotFoundError, NotADirectoryError, IsADirectoryError):
            raise NotFound(f"There is no file {path!r:.200}.") from None
        except OSError as error:
            raise unavailable(path, error) from error

    def _write(self, path: str, content: bytes, overwrite: bool) -> None:
        target = self._locate(path)
        try:
            target.parent.mkdir(parents=True, exist_ok=True)
            descriptor, temporary = tempfile.mkstemp(dir=target.parent, prefix=".writing-")
            try:
                with os.fdopen(descriptor, "wb") as file:
                    file.write(content)
                if overwrite:
                    os.replace(temporary, target)
                else:
                    os.link(temporary, target)
                    os.unlink(temporary)
            except BaseException:
                Path(temporary).unlink(missing_ok=True)
                raise
        except FileExistsError:
            raise Conflict(f"{path!r:.200} exists; name another version or ask to overwrite it.") from None
        except (NotADirectoryError, IsADirectoryError):
            raise InvalidRequest(f"{path!r:.200} has a file where a folder is needed, or is a folder.") from None
        except OSError as error:
            raise unavailable(path, error) from error

    def _list(self, path: str) -> list[VolumeEntry]:
        folder = self._locate(path)
        try:
            found = sorted(folder.iterdir())
        except (FileNotFoundError, NotADirectoryError):
            raise NotFound(f"There is no folder {path!r:.200}.") from None
        except OSError as error:
            raise unavailable(path, error) from error
        entries = (describe(path, file) for file in found if not file.name.startswith(".writing-"))
        return [entry for entry in entries if entry is not None]

    def _delete_directory(self, path: str) -> None:
        try:
            self._locate(path).rmdir()
        except (FileNotFoundError, NotADirectoryError):
            raise NotFound(f"There is no folder {path!r:.200}.") from None
        except OSError as error:
            if error.errno == errno.ENOTEMPTY:
                raise Conflict(f"The folder {path!r:.200} is not empty.") from None
            raise unavailable(path, error) from error

    def _delete(self, path: str) -> None:
        try:
            self._locate(path).unlink()
        except (FileNotFoundError, IsADirectoryError, NotADirectoryError, PermissionError):
            raise NotFound(f"There is no file {path!r:.200}.") from None
        except OSError as error:
            raise unavailable(path, error) from error


def describe(folder_path: str, file: Path) -> VolumeEntry | None:
    """None for a link that leads nowhere and a file that has just gone."""
    try:
        status = file.stat()
    except OSError:
        return None
    return VolumeEntry(
        path=f"{folder_path.rstrip('/')}/{file.name}",
        name=file.name,
        is_directory=file.is_dir(),
        size_bytes=status.st_size,
        modified_at=status.st_mtime,
    )


def unavailable(path: str, error: OSError) -> WorkspaceUnavailable:
    return WorkspaceUnavailable(f"The volume of {path!r:.200} cannot be used: {error.strerror or error}.")
