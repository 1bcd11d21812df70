from pathlib import Path

import pytest

from lakemesh.errors import Conflict, InvalidRequest, NotFound
from lakemesh.lakehouse.workspace import Workspace

pytestmark = pytest.mark.anyio

ROOT = "/Volumes/main/agents/files"


async def test_what_is_written_is_read(workspace: Workspace) -> None:
    await workspace.volumes.write(f"{ROOT}/a/b.txt", b"one")
    assert await workspace.volumes.read(f"{ROOT}/a/b.txt") == b"one"


async def test_existing_file_is_kept_unless_asked(workspace: Workspace) -> None:
    await workspace.volumes.write(f"{ROOT}/x", b"one")
    with pytest.raises(Conflict):
        await workspace.volumes.write(f"{ROOT}/x", b"two")
    assert await workspace.volumes.read(f"{ROOT}/x") == b"one"
    await workspace.volumes.write(f"{ROOT}/x", b"two", overwrite=True)
    assert await workspace.volumes.read(f"{ROOT}/x") == b"two"


async def test_listing_names_files_and_folders(workspace: Workspace) -> None:
    await workspace.volumes.write(f"{ROOT}/b.txt", b"12345")
    await workspace.volumes.write(f"{ROOT}/a/deep.txt", b"")
    entries = await workspace.volumes.list_directory(ROOT)
    assert [(entry.name, entry.is_directory) for entry in entries] == [("a", True), ("b.txt", False)]
    assert entries[1].path == f"{ROOT}/b.txt"
    assert entries[1].size_bytes == 5


async def test_deleted_file_is_gone(workspace: Workspace) -> None:
    await workspace.volumes.write(f"{ROOT}/x", b"")
    await workspace.volumes.delete(f"{ROOT}/x")
    for action in (workspace.volumes.read, workspace.volumes.delete):
        with pytest.raises(NotFound):
            await action(f"{ROOT}/x")


async def test_missing_folder_is_not_found(workspace: Workspace) -> None:
    with pytest.raises(NotFound):
        await workspace.volumes.list_directory(f"{ROOT}/nowhere")


@pytest.mark.parametrize(
    "path",
    [
        "", "/", "relative", "/etc/passwd", "/Volumes", "/Volumes/main/agents", "/Volumes/../../etc/passwd",
        f"{ROOT}/../../../../etc/passwd", f"{ROOT}/a/../../x", f"{ROOT}/./x", f"{ROOT}/x\0", f"{ROOT}/x\n",
        f"{ROOT}\\..\\x", "/Volumes/main/agents/..", "/Volumes/m n/a/b/c", f"{ROOT}/" + "a" * 2_000,
        "//Volumes/a/b/c/d",
    ],
)  # fmt: skip
async def test_paths_out_of_the_volume_are_refused(workspace: Workspace, path: str) -> None:
    with pytest.raises(InvalidRequest):
        await workspace.volumes.read(path)
    with pytest.raises(InvalidRequest):
        await workspace.volumes.write(path, b"x")


async def test_links_that_lead_nowhere_hide_nothing_else(workspace: Workspace, tmp_path: Path) -> None:
    await workspace.volumes.write("/Volumes/main/a/v/file.txt", b"x")
    folder = tmp_path / "workspace/volumes/main/a/v"
    (folder / "broken").symlink_to(folder / "missing")
    (folder / "loop").symlink_to(folder / "loop")
    entries = await workspace.volumes.list_directory("/Volumes/main/a/v")
    assert [entry.name for entry in entries] == ["file.txt"]
    with pytest.raises(InvalidRequest):
        await workspace.volumes.read("/Volumes/main/a/v/loop")


async def test_names_too_long_for_a_folder_are_refused(workspace: Workspace) -> None:
    for verb in (workspace.volumes.read, workspace.volumes.delete, workspace.volumes.list_directory):
        with pytest.raises(InvalidRequest):
            await verb("/Volumes/main/a/v/" + "n" * 300)
