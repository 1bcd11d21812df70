"""Versions of a pipeline: a branch for each run, never the main one, and nothing of somebody else's."""

import json
import subprocess
from pathlib import Path

import pytest
from dulwich.repo import Repo

from lakemesh.errors import Conflict, InvalidRequest
from lakemesh.pipelines.definition import PipelineDefinition
from lakemesh.pipelines.documents import build
from lakemesh.pipelines.repository import Author, LocalRepository
from lakemesh.pipelines.versions import Provenance, Version, commit_version, version_before
from tests.pipelines.sales import SALES, sales


def repository(folder: Path) -> LocalRepository:
    """With one commit on `main`, by somebody else."""
    folder.mkdir()
    made = Repo.init(str(folder), default_branch=b"main")
    (folder / "README.md").write_text("ours\n")
    worktree = made.get_worktree()
    worktree.stage(["README.md"])
    worktree.commit(message=b"first", committer=b"Ann <ann@example.com>", author=b"Ann <ann@example.com>")
    return LocalRepository(folder)


def versioned(source: LocalRepository, definition: PipelineDefinition, run: str, at_seconds: int = 1_000) -> Version:
    provenance = Provenance(
        run=run, definition=definition.digest, user="ann@example.com", model="m-1", at_seconds=at_seconds
    )
    return commit_version(source, definition, build(definition), provenance)


@pytest.fixture
def source(tmp_path: Path) -> LocalRepository:
    return repository(tmp_path / "repo")


def merge(source: LocalRepository, version: Version) -> None:
    source._repo.refs[b"refs/heads/main"] = version.commit.encode()


def test_a_run_has_a_branch_of_its_own_with_its_provenance(source: LocalRepository, tmp_path: Path) -> None:
    before = source.commit_of("main")
    version = versioned(source, sales(), "run-1")
    assert version.branch == "agent/sales/run-1"
    assert source.commit_of("main") == before
    assert (tmp_path / "repo" / "README.md").read_text() == "ours\n"
    assert not (tmp_path / "repo" / "pipelines").exists()
    files = source.files_of(version.branch)
    assert files["README.md"] == b"ours\n"
    assert files["pipelines/sales/definition.yaml"]
    message = source.message_of(version.branch)
    assert f"Lakemesh-Definition: {sales().digest}" in message
    assert "Lakemesh-Run: run-1\n" in message
    assert "Lakemesh-Model: m-1" in message
    shown = subprocess.run(["git", "fsck", "--strict"], cwd=tmp_path / "repo", capture_output=True, text=True)
    assert shown.returncode == 0, shown.stderr


def test_a_run_that_is_begun_again_gives_the_same_commit(source: LocalRepository) -> None:
    first = versioned(source, sales(), "run-1", at_seconds=1_000)
    assert versioned(source, sales(), "run-1", at_seconds=2_000) == first
    assert source.branches("agent/") == ["agent/sales/run-1"]
    with pytest.raises(Conflict, match="something else"):
        versioned(source, sales(description="another"), "run-1")


def test_what_somebody_else_changed_or_made_is_not_written_over(source: LocalRepository) -> None:
    version = versioned(source, sales(), "run-1")
    merge(source, version)
    changed = source.files_of("main", "pipelines/sales") | {"transformations/gold.py": b"# by hand\n"}
    source.commit("hand", base="main", folder="pipelines/sales", files=changed, message="by hand",
                  author=Author("Ann", "ann@example.com"), at_seconds=1)  # fmt: skip
    merge(source, Version(branch="hand", commit=source.commit_of("hand")))
    with pytest.raises(Conflict, match=r"gold\.py was changed by hand"):
        versioned(source, sales(description="another"), "run-2")


def test_files_of_others_in_the_folder_stay_and_own_ones_go(source: LocalRepository) -> None:
    merge(source, versioned(source, sales(), "run-1"))
    there = source.files_of("main", "pipelines/sales")
    source.commit("more", base="main", folder="pipelines/sales", files={**there, "notes.md": b"mine"}, message="notes",
                  author=Author("Ann", "ann@example.com"), at_seconds=1)  # fmt: skip
    merge(source, Version(branch="more", commit=source.commit_of("more")))
    smaller = sales(datasets=SALES["datasets"][:2])
    version = versioned(source, smaller, "run-2")
    files = source.files_of(version.branch, "pipelines/sales")
    assert files["notes.md"] == b"mine"
    assert "transformations/gold.py" not in files
    assert "notes.md" not in json.loads(files[".lakemesh-pipeline.json"])["files"]


def test_the_main_branch_and_strange_runs_are_refused(source: LocalRepository) -> None:
    with pytest.raises(Conflict, match="not written to"):
        source.commit("main", base="main", folder="", files={}, message="", author=Author("a", "b"), at_seconds=0)
    for run in ("../main", "a b", "", "x" * 65, "-x"):
        with pytest.raises(InvalidRequest):
            versioned(source, sales(), run)


def test_a_former_definition_is_read_back_and_pushed(source: LocalRepository, tmp_path: Path) -> None:
    version = versioned(source, sales(), "run-1")
    assert version_before(source, "sales", version.branch) == sales()
    Repo.init_bare(str(tmp_path / "remote"), mkdir=True)
    source.push(version.branch, str(tmp_path / "remote"))
    source.push(version.branch, str(tmp_path / "remote"))
    assert LocalRepository(tmp_path / "remote").commit_of(version.branch) == version.commit
