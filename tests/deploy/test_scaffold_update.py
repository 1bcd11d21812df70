"""`lakemesh init --update`: a folder that an older lakemesh made comes to this one and keeps what was changed."""

import shutil
import subprocess
import zipfile
from pathlib import Path

import pytest
import yaml
from copier import run_copy

from lakemesh import __version__
from lakemesh.deploy.scaffold import ANSWERS, TEMPLATE, unpack_template
from lakemesh.deploy.wheel import NAME, write_wheel
from tests.cli.test_startup import run

OLD = "lakemesh-0.0.9-py3-none-any.whl"
HEADING = "## A newer lakemesh"


@pytest.fixture(scope="module")
def old_app(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Made by a release before this one: its template had another heading, no llms.txt, and a file that is gone."""
    root = tmp_path_factory.mktemp("old")
    template, app = root / "template", root / "shop"
    unpack_template(write_wheel(root), template)
    readme = template / "README.md"
    readme.write_text(readme.read_text().replace(HEADING, "## Upgrading"))
    (template / "llms.txt").unlink()
    (template / "obsolete.txt").write_text("of [[ app_name ]]\n")
    answers = {"app_name": "shop", "kind": "agent", "wheel": OLD}
    run_copy(str(template), app, answers, defaults=True, quiet=True)
    (app / ANSWERS).write_text(yaml.safe_dump({**answers, "_src_path": "lakemesh", "_commit": "0.0.9"}))
    (app / "wheels").mkdir()
    with zipfile.ZipFile(app / "wheels" / OLD, "w") as archive:
        for file in filter(Path.is_file, template.rglob("*")):
            archive.write(file, TEMPLATE + file.relative_to(template).as_posix())
    git(app, "init")
    commit(app)
    return app


@pytest.fixture
def app(old_app: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(old_app, tmp_path / "shop"))


def git(folder: Path, *arguments: str) -> str:
    author = ["-c", "user.name=ann", "-c", "user.email=ann@example.com"]
    return subprocess.run(["git", *author, *arguments], cwd=folder, check=True, capture_output=True, text=True).stdout


def commit(folder: Path) -> None:
    git(folder, "add", "--all")
    git(folder, "commit", "--quiet", "--message", "as it is")


def test_what_is_new_comes_and_what_was_changed_stays(app: Path) -> None:
    config = app / "config/lakemesh.yaml"
    config.write_text(config.read_text().replace("agents:\n", "agents:\n  mine: {class: echo}\n", 1))
    (app / "shop_agents/mine.py").write_text("MINE = True\n")
    (app / "Dockerfile").unlink()
    commit(app)
    done = run(app, "init", "--update")
    assert done.returncode == 0, done.stderr
    assert f"lakemesh {__version__}" in done.stdout
    assert HEADING in (app / "README.md").read_text()
    assert (app / "llms.txt").is_file()
    assert not (app / "obsolete.txt").exists()
    assert "mine: {class: echo}" in config.read_text()
    assert (app / "shop_agents/mine.py").read_text() == "MINE = True\n"
    assert not (app / "Dockerfile").exists()
    assert f"./wheels/{NAME}[databricks]" in (app / "requirements.txt").read_text()
    assert [file.name for file in (app / "wheels").iterdir()] == [NAME]
    assert yaml.safe_load((app / ANSWERS).read_text())["_commit"] == __version__
    assert not list(app.rglob("*.rej"))
    commit(app)
    again = run(app, "init", "--update")
    assert (again.returncode, git(app, "status", "--porcelain")) == (0, ""), again.stderr


def test_what_both_changed_is_marked_and_named(app: Path) -> None:
    readme = app / "README.md"
    readme.write_text(readme.read_text().replace("## Upgrading", "## How we upgrade"))
    commit(app)
    done = run(app, "init", "--update")
    assert done.returncode == 1
    assert "README.md: changed here and in the template" in done.stderr
    text = readme.read_text()
    assert "<<<<<<< before updating" in text
    assert "## How we upgrade" in text
    assert HEADING in text


def test_nothing_is_done_where_it_could_not_be_taken_back(app: Path, tmp_path: Path) -> None:
    (app / "mine.txt").write_text("not committed")
    refused = run(app, "init", "--update")
    assert (refused.returncode, "Commit your changes first" in refused.stderr) == (1, True), refused.stderr
    shutil.rmtree(app / ".git")
    refused = run(app, "init", "--update", GIT_CEILING_DIRECTORIES=str(tmp_path))
    assert (refused.returncode, "git init" in refused.stderr) == (1, True), refused.stderr
    (app / "wheels" / OLD).unlink()
    assert "the lakemesh that made this folder" in run(app, "init", "--update").stderr
    assert "not made by `lakemesh init`" in run(tmp_path, "init", "--update").stderr
