"""Files in the workspace's tree: what a deployment keeps there, and what it uploads."""

import json
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any
from urllib.parse import quote

from lakemesh.deploy.resources.base import Target, absolute
from lakemesh.errors import NotFound

PARALLEL = 8
"""Uploads at once: as many connections as the SDK keeps to one host without waiting."""


def write_file(target: Target, path: str, content: bytes, *, overwrite: bool = True) -> None:
    """Unlike `workspace/import`, `workspace-files/import-file` takes empty files and has no base64 to make 10 MB of
    7.5 (databricks/cli issue 2661; the CLI's own sync uses it). Raises `Conflict` for a file that is there and may not
    be overwritten."""
    place = f"/api/2.0/workspace-files/import-file/{quote(absolute(path).lstrip('/'))}"

    def send() -> None:
        target.send(place, content, query={"overwrite": str(overwrite).lower()})

    try:
        send()
    except NotFound:  # the folder is missing
        make_folder(target, path.rpartition("/")[0])
        send()


def write_files(target: Target, folder: str, contents: Mapping[str, bytes]) -> None:
    """All of `contents` below `folder`, several at once; every folder is there before its first file."""
    folders = sorted({f"{folder}/{path}".rpartition("/")[0] for path in contents})
    with ThreadPoolExecutor(PARALLEL) as pool:
        list(pool.map(lambda place: make_folder(target, place), folders))
        list(pool.map(lambda path: write_file(target, f"{folder}/{path}", contents[path]), contents))


def read_file(target: Target, path: str) -> bytes | None:
    """None when there is none."""
    query = {"path": absolute(path), "direct_download": "true"}
    try:
        return target.download("/api/2.0/workspace/export", query=query)
    except NotFound:
        return None


def read_json(target: Target, path: str) -> dict[str, Any] | None:
    """A JSON object; None when there is none, or something else."""
    try:
        found = json.loads(read_file(target, path) or b"null")
    except ValueError:
        return None
    return found if isinstance(found, dict) else None


def make_folder(target: Target, path: str) -> None:
    target.do("POST", "/api/2.0/workspace/mkdirs", {"path": absolute(path)})


def delete(target: Target, path: str) -> None:
    """With everything in it; nothing when it is not there."""
    try:
        target.do("POST", "/api/2.0/workspace/delete", {"path": absolute(path), "recursive": True})
    except NotFound:
        return


def list_folder(target: Target, path: str) -> list[str]:
    """Full paths; none when the folder is not there."""
    try:
        found = target.do("GET", "/api/2.0/workspace/list", query={"path": absolute(path)})
    except NotFound:
        return []
    return [absolute(str(item["path"])) for item in found.get("objects") or ()]
