"""Workspace files: imported, exported, listed. They live in memory."""

import base64
from typing import Any

from fastapi import APIRouter, Request
from fastapi.responses import JSONResponse, Response
from starlette.datastructures import UploadFile

from lakemesh.lakehouse.emulator.errors import ApiError, not_found
from lakemesh.lakehouse.emulator.identity import body_of


class Tree:
    """Files by absolute path, and the folders above them."""

    def __init__(self) -> None:
        self._files: dict[str, bytes] = {}
        self._folders: set[str] = {"/"}

    def write(self, path: str, content: bytes, *, overwrite: bool) -> None:
        if path in self._files and not overwrite:
            raise ApiError(409, f"{path!r} already exists.", error_code="RESOURCE_ALREADY_EXISTS")
        self.make_folder(path.rpartition("/")[0])
        self._files[path] = content

    def read(self, path: str) -> bytes:
        if path not in self._files:
            raise not_found(f"Path {path!r}")
        return self._files[path]

    def make_folder(self, path: str) -> None:
        while path and path not in self._folders:
            self._folders.add(path)
            path = path.rpartition("/")[0]

    def delete(self, path: str, *, recursive: bool) -> None:
        self.describe(path)
        below = [name for name in (*self._files, *self._folders) if name.startswith(f"{path.rstrip('/')}/")]
        if below and not recursive:
            raise ApiError(400, f"The folder {path!r} is not empty.", error_code="DIRECTORY_NOT_EMPTY")
        for name in (path, *below):
            self._files.pop(name, None)
            self._folders.discard(name)

    def describe(self, path: str) -> dict[str, Any]:
        if path not in self._files and path not in self._folders:
            raise not_found(f"Path {path!r}")
        kind = "FILE" if path in self._files else "DIRECTORY"
        return {"path": path, "object_type": kind, "object_id": abs(hash(path)) % 10**12}

    def children(self, path: str) -> list[dict[str, Any]]:
        self.describe(path)
        prefix = f"{path.rstrip('/')}/"
        names = {*self._files, *self._folders} - {"/"}
        return [self.describe(name) for name in sorted(names) if name.rpartition("/")[0] + "/" == prefix]


def routes() -> APIRouter:
    router = APIRouter(prefix="/api/2.0")
    tree = Tree()

    @router.post("/workspace/import")
    async def import_file(request: Request) -> dict[str, Any]:
        if request.headers.get("content-type", "").startswith("multipart/"):
            form = await request.form()
            sent = form.get("content")
            content = await sent.read() if isinstance(sent, UploadFile) else str(sent or "").encode()
            tree.write(str(form["path"]), content, overwrite=str(form.get("overwrite")).lower() == "true")
        else:
            body = body_of(await request.body())
            content = base64.b64decode(body.get("content") or "")
            tree.write(str(body["path"]), content, overwrite=bool(body.get("overwrite")))
        return {}

    @router.post("/workspace-files/import-file/{path:path}")
    async def import_raw(path: str, request: Request) -> dict[str, Any]:
        overwrite = request.query_params.get("overwrite", "").lower() == "true"
        tree.write(f"/{path.lstrip('/')}", await request.body(), overwrite=overwrite)
        return {}

    @router.get("/workspace/export")
    async def export(path: str, request: Request) -> Response:
        content = tree.read(path)
        if request.query_params.get("direct_download", "").lower() == "true":
            return Response(content, media_type="application/octet-stream")
        return JSONResponse({"content": base64.b64encode(content).decode(), "file_type": path.rpartition(".")[2]})

    @router.post("/workspace/mkdirs")
    async def mkdirs(request: Request) -> dict[str, Any]:
        tree.make_folder(str(body_of(await request.body())["path"]).rstrip("/"))
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
