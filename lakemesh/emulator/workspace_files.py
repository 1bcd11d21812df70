"""Workspace files: imported, exported, listed. They lie in a folder of the emulator's home."""

import base64
import shutil
import zlib
from pathlib import Path
from typing import Any

from fastapi import APIRouter, Request
from fastapi.responses import JSONResponse, Response
from starlette.datastructures import UploadFile

from lakemesh.emulator.errors import ApiError, not_found
from lakemesh.emulator.identity import body_of

MAX_IMPORT_BYTES = 10 * 1024 * 1024
"""Of one JSON request, so that 7.5 MB of content fit (Workspace API reference, "import")."""


class Tree:
    """Files by absolute path. `/Workspace/Users/...` and `/Users/...` are one place, as on the platform."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        folder.mkdir(parents=True, exist_ok=True)

    def local(self, path: str) -> Path:
        """Where a path lies. Raises `ApiError` for one that steps out of the workspace."""
        parts = [part for part in path.removeprefix("/Workspace").split("/") if part]
        if not path.startswith("/") or ".." in parts or "\0" in path:
            raise ApiError(400, f"Path ({path!r:.200}) has to be absolute.")
        return self._folder.joinpath(*parts)

    def write(self, path: str, content: bytes, *, overwrite: bool, status_if_there: int = 400) -> None:
        file = self.local(path)
        if not file.parent.is_dir():
            raise not_found(f"The parent folder ({path.rpartition('/')[0]})")
        try:
            with file.open("wb" if overwrite else "xb") as opened:
                opened.write(content)
        except FileExistsError:
            raise ApiError(status_if_there, f"{path!r} already exists.", error_code="RESOURCE_ALREADY_EXISTS") from None

    def read(self, path: str) -> bytes:
        file = self.local(path)
        if not file.is_file():
            raise not_found(f"Path {path!r}")
        return file.read_bytes()

    def make_folder(self, path: str) -> None:
        self.local(path).mkdir(parents=True, exist_ok=True)

    def delete(self, path: str, *, recursive: bool) -> None:
        self.describe(path)
        place = self.local(path)
        if place.is_file():
            place.unlink()
        elif any(place.iterdir()) and not recursive:
            raise ApiError(400, f"The folder {path!r} is not empty.", error_code="DIRECTORY_NOT_EMPTY")
        else:
            shutil.rmtree(place)

    def describe(self, path: str) -> dict[str, Any]:
        place = self.local(path)
        if not place.exists():
            raise not_found(f"Path {path!r}")
        kind = "FILE" if place.is_file() else "DIRECTORY"
        return {"path": path, "object_type": kind, "object_id": zlib.crc32(path.encode())}

    def children(self, path: str) -> list[dict[str, Any]]:
        self.describe(path)
        return [
            self.describe(f"{path.rstrip('/')}/{child.name}")
            for child in sorted(self.local(path).iterdir(), key=lambda child: child.name)
        ]


def routes(tree: Tree) -> APIRouter:
    router = APIRouter(prefix="/api/2.0")

    @router.post("/workspace/import")
    async def import_file(request: Request) -> dict[str, Any]:
        if request.headers.get("content-type", "").startswith("multipart/"):
            form = await request.form()
            sent = form.get("content")
            content = await sent.read() if isinstance(sent, UploadFile) else str(sent or "").encode()
            tree.write(str(form["path"]), content, overwrite=str(form.get("overwrite")).lower() == "true")
        else:
            sent_json = await request.body()
            if len(sent_json) > MAX_IMPORT_BYTES:
                message = f"The request is larger than {MAX_IMPORT_BYTES} bytes."
                raise ApiError(400, message, error_code="MAX_NOTEBOOK_SIZE_EXCEEDED")
            body = body_of(sent_json)
            if not body.get("content"):  # databricks/cli issue 2661
                raise ApiError(400, "No input data source provided.")
            content = base64.b64decode(body["content"])
            tree.write(str(body["path"]), content, overwrite=bool(body.get("overwrite")))
        return {}

    @router.post("/workspace-files/import-file/{path:path}")
    async def import_raw(path: str, request: Request) -> dict[str, Any]:
        """404 without its folder, 409 for a file that is there (Databricks CLI, libs/filer)."""
        overwrite = request.query_params.get("overwrite", "").lower() == "true"
        tree.write(f"/{path.lstrip('/')}", await request.body(), overwrite=overwrite, status_if_there=409)
        return {}

    @router.get("/workspace/export")
    async def export(path: str, request: Request) -> Response:
        content = tree.read(path)
        if request.query_params.get("direct_download", "").lower() == "true":
            return Response(content, media_type="application/octet-stream")
        return JSONResponse({"content": base64.b64encode(content).decode(), "file_type": path.rpartition(".")[2]})

    @router.post("/workspace/mkdirs")
    async def mkdirs(request: Request) -> dict[str, Any]:
        tree.make_folder(str(body_of(await request.body())["path"]))
        return {}

    @router.post("/workspace/delete")
    async def delete(request: Request) -> dict[str, Any]:
        body = body_of(await request.body())
        tree.delete(str(body["path"]), recursive=bool(body.get("recursive")))
        return {}

    @router.get("/workspace/get-status")
    async def get_status(path: str) -> dict[str, Any]:
        return tree.describe(path)

    @router.get("/workspace/list")
    async def list_files(path: str) -> dict[str, Any]:
        return {"objects": tree.children(path)}

    return router
