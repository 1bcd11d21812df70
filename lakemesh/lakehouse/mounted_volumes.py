"""Volumes of a workspace, of which some are folders of this machine."""

from collections.abc import Mapping
from pathlib import Path

from lakemesh.lakehouse.names import split_volume_path
from lakemesh.lakehouse.volumes import VolumeEntry, Volumes


class MountedVolumes:
    """The port over `others`, except for the volumes that `mounts` lays elsewhere (`/Volumes/catalog/schema/volume` →
    folder)."""

    def __init__(self, others: Volumes, mounts: Mapping[str, Path]) -> None:
        from lakemesh.lakehouse.embedded.volumes import FolderVolumes

        self._others = others
        self._mounted = {split_volume_path(path)[0] for path in mounts}
        self._folders = FolderVolumes(Path(), mounts)

    def _of(self, path: str) -> Volumes:
        return self._folders if split_volume_path(path)[0] in self._mounted else self._others

    async def read(self, path: str) -> bytes:
        return await self._of(path).read(path)

    async def write(self, path: str, content: bytes, *, overwrite: bool = False) -> None:
        await self._of(path).write(path, content, overwrite=overwrite)

    async def list_directory(self, path: str) -> list[VolumeEntry]:
        return await self._of(path).list_directory(path)

    async def delete(self, path: str) -> None:
        await self._of(path).delete(path)

    async def delete_directory(self, path: str) -> None:
        await self._of(path).delete_directory(path)
