"""Workspace files in a folder of the embedded workspace's home."""

import asyncio
import shutil
from pathlib import Path

from lakemesh.errors import InvalidRequest, NotFound


class FolderFiles:
    """`/Workspace/Users/...` and `/Users/...` are one place, as on the platform."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def _local(self, path: str) -> Path:
        parts = [part for part in path.removeprefix("/Workspace").split("/") if part]
        if not path.startswith("/") or ".." in parts or "\0" in path:
            raise InvalidRequest(f"The path {path!r:.200} is not one of the workspace's.")
        return self._folder.joinpath(*parts)

    def is_file(self, path: str) -> bool:
        return self._local(path).is_file()

    async def read(self, path: str) -> bytes:
        place = self._local(path)
        if not await asyncio.to_thread(place.is_file):
            raise NotFound(f"There is no file {path}.")
        return await asyncio.to_thread(place.read_bytes)

    async def write(self, path: str, content: bytes) -> None:
        place = self._local(path)

        def write() -> None:
            place.parent.mkdir(parents=True, exist_ok=True)
            place.write_bytes(content)

        await asyncio.to_thread(write)

    async def list_files(self, folder: str) -> list[str]:
        place = self._local(folder)

        def walk() -> list[str]:
            found = (file.relative_to(place) for file in place.rglob("*") if file.is_file())
            return sorted(f"{folder.rstrip('/')}/{file}" for file in found)

        return await asyncio.to_thread(walk)

    async def delete(self, path: str) -> None:
        place = self._local(path)

        def remove() -> None:
            if place.is_dir():
                shutil.rmtree(place)
            else:
                place.unlink(missing_ok=True)

        await asyncio.to_thread(remove)
