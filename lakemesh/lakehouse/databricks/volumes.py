"""Volumes through the Files API."""

import io
from typing import TYPE_CHECKING

from lakemesh.errors import NotFound, WorkspaceUnavailable
from lakemesh.lakehouse.databricks.calls import SdkCalls
from lakemesh.lakehouse.names import split_volume_path
from lakemesh.lakehouse.volumes import VolumeEntry
from lakemesh.scope import current_deadline

if TYPE_CHECKING:
    from databricks.sdk import WorkspaceClient
    from databricks.sdk.service.files import DirectoryEntry

TIMEOUT_SECONDS = 30.0


class UnityVolumes:
    """Paths are checked here before they become part of a URL."""

    def __init__(self, client: "WorkspaceClient", calls: SdkCalls) -> None:
        self._files = client.files
        self._calls = calls

    async def read(self, path: str) -> bytes:
        split_volume_path(path)
        deadline = current_deadline(TIMEOUT_SECONDS)
        return await self._calls.run(lambda: self._download(path), deadline=deadline, repeatable=True)

    async def write(self, path: str, content: bytes, *, overwrite: bool = False) -> None:
        split_volume_path(path)
        deadline = current_deadline(TIMEOUT_SECONDS)

        def upload() -> None:
            self._files.upload(path, io.BytesIO(content), overwrite=overwrite)

        try:
            await self._calls.run(upload, deadline=deadline)
        except NotFound:  # the folder is missing
            folder = path.rpartition("/")[0]
            await self._calls.run(lambda: self._files.create_directory(folder), deadline=deadline)
            await self._calls.run(upload, deadline=deadline)

    async def list_directory(self, path: str) -> list[VolumeEntry]:
        split_volume_path(path)
        deadline = current_deadline(TIMEOUT_SECONDS)
        entries = await self._calls.run(
            lambda: list(self._files.list_directory_contents(path)), deadline=deadline, repeatable=True
        )
        return sorted(map(describe, entries), key=lambda entry: entry.name)

    async def delete(self, path: str) -> None:
        split_volume_path(path)
        await self._calls.run(lambda: self._files.delete(path), deadline=current_deadline(TIMEOUT_SECONDS))

    async def delete_directory(self, path: str) -> None:
        split_volume_path(path)
        await self._calls.run(lambda: self._files.delete_directory(path), deadline=current_deadline(TIMEOUT_SECONDS))

    def _download(self, path: str) -> bytes:
        answer = self._files.download(path)
        assert answer.contents is not None, "a download has contents"
        with answer.contents as stream:
            content = stream.read()
        if answer.content_length is not None and len(content) != answer.content_length:
            raise WorkspaceUnavailable(f"The answer for {path!r:.200} was cut short.")
        return content


def describe(entry: "DirectoryEntry") -> VolumeEntry:
    return VolumeEntry(
        path=(entry.path or "").rstrip("/"),
        name=entry.name or "",
        is_directory=bool(entry.is_directory),
        size_bytes=entry.file_size or 0,
        modified_at=(entry.last_modified or 0) / 1_000,
    )
