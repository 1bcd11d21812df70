import pytest

from lakemesh.errors import Conflict, InvalidRequest, NotFound
from lakemesh.lakehouse.workspace import Workspace

pytestmark = pytest.mark.anyio


def folder(schema: str) -> str:
    return f"/Volumes/{schema.replace('.', '/')}/files"


async def test_a_file_is_read_as_it_was_written(workspace: Workspace, schema: str) -> None:
    path = f"{folder(schema)}/deep/er/a b%20ü.bin"
    content = bytes(range(256)) * 100
    await workspace.volumes.write(path, content)
    assert await workspace.volumes.read(path) == content


async def test_an_empty_file(workspace: Workspace, schema: str) -> None:
    path = f"{folder(schema)}/empty"
    await workspace.volumes.write(path, b"")
    assert await workspace.volumes.read(path) == b""


async def test_overwriting_has_to_be_asked_for(workspace: Workspace, schema: str) -> None:
    path = f"{folder(schema)}/v1.yaml"
    await workspace.volumes.write(path, b"one")
    with pytest.raises(Conflict):
        await workspace.volumes.write(path, b"two")
    assert await workspace.volumes.read(path) == b"one"
    await workspace.volumes.write(path, b"three", overwrite=True)
    assert await workspace.volumes.read(path) == b"three"


async def test_listing_is_by_name(workspace: Workspace, schema: str) -> None:
    base = folder(schema)
    for name in ("b", "a", "c/d"):
        await workspace.volumes.write(f"{base}/{name}", name.encode())
    entries = await workspace.volumes.list_directory(base)
    assert [(entry.name, entry.is_directory) for entry in entries] == [("a", False), ("b", False), ("c", True)]
    assert entries[0].path == f"{base}/a"
    assert entries[0].size_bytes == 1
    assert entries[0].modified_at > 1_700_000_000


async def test_deleting(workspace: Workspace, schema: str) -> None:
    path = f"{folder(schema)}/gone"
    await workspace.volumes.write(path, b"x")
    await workspace.volumes.delete(path)
    with pytest.raises(NotFound):
        await workspace.volumes.read(path)
    with pytest.raises(NotFound):
        await workspace.volumes.delete(path)


async def test_a_folder_is_removed_when_it_is_empty(workspace: Workspace, schema: str) -> None:
    path = f"{folder(schema)}/emptied"
    await workspace.volumes.write(f"{path}/file", b"x")
    with pytest.raises(Conflict):
        await workspace.volumes.delete_directory(path)
    await workspace.volumes.delete(f"{path}/file")
    await workspace.volumes.delete_directory(path)
    with pytest.raises(NotFound):
        await workspace.volumes.delete_directory(path)


async def test_what_is_missing(workspace: Workspace, schema: str) -> None:
    with pytest.raises(NotFound):
        await workspace.volumes.read(f"{folder(schema)}/nothing")
    with pytest.raises(NotFound):
        await workspace.volumes.list_directory(f"{folder(schema)}/nowhere")


@pytest.mark.parametrize(
    "path",
    ["relative", "/etc/passwd", "/Volumes/a/b", "/Volumes/a/b/c/../../d", "/Volumes/a/b/c/./x", "/Volumes/a/b/c/x\0"],
)
async def test_paths_that_are_none(workspace: Workspace, path: str) -> None:
    with pytest.raises(InvalidRequest):
        await workspace.volumes.read(path)
    with pytest.raises(InvalidRequest):
        await workspace.volumes.write(path, b"")
    with pytest.raises(InvalidRequest):
        await workspace.volumes.list_directory(path)
    with pytest.raises(InvalidRequest):
        await workspace.volumes.delete(path)
