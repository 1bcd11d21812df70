"""Workspace files through the Workspace API, Git folders through the Repos API."""

import io
from collections.abc import Callable
from typing import TYPE_CHECKING, TypeVar

from lakemesh.errors import Conflict, NotFound
from lakemesh.lakehouse.databricks.calls import SdkCalls
from lakemesh.scope import current_deadline

if TYPE_CHECKING:
    from databricks.sdk import WorkspaceClient

T = TypeVar("T")

TIMEOUT_SECONDS = 30.0


class SdkWorkspaceFiles:
    def __init__(self, client: "WorkspaceClient", calls: SdkCalls) -> None:
        self._api = client.workspace
        self._calls = calls

    async def _run(self, call: Callable[[], T]) -> T:
        return await self._calls.run(call, deadline=current_deadline(TIMEOUT_SECONDS), repeatable=True)

    async def read(self, path: str) -> bytes:
        def download() -> bytes:
            with self._api.download(path) as content:
                return content.read()

        return await self._run(download)

    async def write(self, path: str, content: bytes) -> None:
        from databricks.sdk.service.workspace import ImportFormat

        def upload() -> None:
            self._api.mkdirs(path.rpartition("/")[0])
            self._api.upload(path, io.BytesIO(content), format=ImportFormat.RAW, overwrite=True)

        await self._run(upload)

    async def list_files(self, folder: str) -> list[str]:
        from databricks.sdk.service.workspace import ObjectType

        def walk() -> list[str]:
            found = self._api.list(folder, recursive=True)
            return sorted(str(item.path) for item in found if item.object_type is ObjectType.FILE)

        try:
            return await self._run(walk)
        except NotFound:
            return []

    async def delete(self, path: str) -> None:
        try:
            await self._run(lambda: self._api.delete(path, recursive=True))
        except NotFound:
            return


class SdkGitFolders:
    def __init__(self, client: "WorkspaceClient", calls: SdkCalls) -> None:
        self._client = client
        self._calls = calls

    async def check_out(self, path: str, *, url: str, provider: str, branch: str) -> str:
        def check_out() -> str:
            repos = self._client.repos
            known = next((repo for repo in repos.list(path_prefix=path) if repo.path == path), None)
            if known is None:
                self._client.workspace.mkdirs(path.rpartition("/")[0])
                made = repos.create(url, provider, path=path)
                repo_id, at = made.id, made.url
            else:
                repo_id, at = known.id, known.url
            if at != url:
                raise Conflict(f"{path} holds another repository ({at}); name another folder.")
            repos.update(int(repo_id or 0), branch=branch)
            return str(repos.get(int(repo_id or 0)).head_commit_id or "")

        return await self._calls.run(check_out, deadline=current_deadline(TIMEOUT_SECONDS), repeatable=True)
