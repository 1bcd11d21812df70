"""The Files API: volumes."""

import email.utils
from collections.abc import Mapping
from pathlib import PurePosixPath
from typing import Any

from fastapi import APIRouter, Request
from fastapi.responses import Response

from lakemesh.emulator.errors import ApiError, not_found
from lakemesh.emulator.identity import Grants
from lakemesh.errors import Conflict, NotFound
from lakemesh.lakehouse.names import split_volume_path
from lakemesh.lakehouse.volumes import VolumeEntry, Volumes

PAGE = 1_000


def routes(volumes: Volumes, grants: Grants) -> APIRouter:
    router = APIRouter(prefix="/api/2.0/fs")

    def allow(request: Request, path: str, privilege: str) -> None:
        volume, _ = split_volume_path(path)
        grants.require(request.state.user, privilege, ".".join(volume))

    async def entry(path: str) -> VolumeEntry:
        """Raises `ApiError` 404."""
        folder, _, name = path.rstrip("/").rpartition("/")
        if len(PurePosixPath(path).parts) <= 5:
            raise not_found(f"The file {path!r}")
        found = [item for item in await volumes.list_directory(folder) if item.name == name]
        if not found:
            raise not_found(f"The path {path!r}")
        return found[0]

    @router.put("/files{path:path}", status_code=204)
    async def upload(path: str, request: Request) -> Response:
        allow(request, path, "WRITE_VOLUME")
        overwrite = request.query_params.get("overwrite", "false").lower() == "true"
        await volumes.write(path, await request.body(), overwrite=overwrite)
        return Response(status_code=204)

    @router.get("/files{path:path}")
    async def download(path: str, request: Request) -> Response:
        allow(request, path, "READ_VOLUME")
        content = await volumes.read(path)
        return Response(content, headers=file_headers(await entry(path)))

    @router.head("/files{path:path}")
    async def metadata(path: str, request: Request) -> Response:
        allow(request, path, "READ_VOLUME")
        found = await entry(path)
        if found.is_directory:
            raise not_found(f"The file {path!r}")
        return Response(headers={**file_headers(found), "content-length": str(found.size_bytes)})

    @router.delete("/files{path:path}", status_code=204)
    async def delete(path: str, request: Request) -> Response:
        allow(request, path, "WRITE_VOLUME")
        await volumes.delete(path)
        return Response(status_code=204)

    @router.post("/files{path:path}")
    async def initiate_upload(path: str) -> Response:
        raise ApiError(501, "Multipart uploads are not emulated; the SDK falls back to one request.")

    @router.post("/create-download-url")
    async def create_download_url() -> Response:
        raise ApiError(501, "Presigned URLs are not emulated; the SDK falls back to the plain download.")

    @router.get("/directories{path:path}")
    async def list_directory(path: str, request: Request) -> dict[str, Any]:
        allow(request, path, "READ_VOLUME")
        entries = await volumes.list_directory(path)
        start = int(request.query_params.get("page_token") or 0)
        answer: dict[str, Any] = {"contents": [contents(item) for item in entries[start : start + PAGE]]}
        if start + PAGE < len(entries):
            answer["next_page_token"] = str(start + PAGE)
        return answer

    @router.put("/directories{path:path}", status_code=204)
    async def create_directory(path: str, request: Request) -> Response:
        """Folders come with their first file, so there is nothing to do but to check the path."""
        allow(request, path, "WRITE_VOLUME")
        return Response(status_code=204)

    @router.head("/directories{path:path}")
    async def directory_metadata(path: str, request: Request) -> Response:
        allow(request, path, "READ_VOLUME")
        await volumes.list_directory(path)
        return Response()

    @router.delete("/directories{path:path}", status_code=204)
    async def delete_directory(path: str, request: Request) -> Response:
        allow(request, path, "WRITE_VOLUME")
        try:
            await volumes.delete_directory(path)
        except Conflict:
            raise ApiError(409, "The directory is not empty.", error_code="FAILED_PRECONDITION") from None
        except NotFound:
            raise not_found(f"The directory {path!r}") from None
        return Response(status_code=204)

    return router


def contents(entry: VolumeEntry) -> Mapping[str, Any]:
    return {
        "path": entry.path,
        "name": entry.name,
        "is_directory": entry.is_directory,
        "file_size": entry.size_bytes,
        "last_modified": int(entry.modified_at * 1_000),
    }


def file_headers(entry: VolumeEntry) -> dict[str, str]:
    return {
        "content-type": "application/octet-stream",
        "last-modified": email.utils.formatdate(entry.modified_at, usegmt=True),
    }
