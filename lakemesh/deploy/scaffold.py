"""A new app: the copier template in `template/`, rendered, and the lakemesh it runs on as a wheel beside it.

copier updates a folder from a template's Git history. This template has none: it comes with each lakemesh. But the
folder carries the wheel that made it, so a history is made of that wheel's template and today's when it is needed.
"""

import re
import shutil
import subprocess
import tempfile
import zipfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from importlib.resources import as_file, files
from pathlib import Path
from typing import Any, Literal, get_args

import yaml

from lakemesh import __version__
from lakemesh.deploy.wheel import NAME, write_wheel
from lakemesh.errors import Conflict, InvalidRequest, NotFound, Unavailable

Kind = Literal["agent", "tools", "analyst", "pipelines", "protocols"]

KINDS: Mapping[Kind, str] = {
    "agent": "an agent of your own: a class that asks a model and remembers",
    "tools": "a model with tools: Python functions and SQL, without a class",
    "analyst": "questions in plain words over tables, with charts",
    "pipelines": "pipelines from requests in plain English",
    "protocols": "an agent for assistants (MCP) and other agents (A2A) only",
}
NAME_PATTERN = re.compile(r"[a-z][a-z0-9]*(-[a-z0-9]+)*")
MAX_NAME = 21
"""Databricks Apps take 30 characters, and `-staging` is added."""

ANSWERS = ".copier-answers.yml"
PASSING_ANSWERS = Path(".lakemesh/copier-answers.yml")
"""While copier updates, where Git does not look: the template's place is a temporary one."""

TEMPLATE = "lakemesh/deploy/template/"
GIT_SECONDS = 60


def require_name(name: str) -> None:
    """Raises `InvalidRequest`."""
    if not NAME_PATTERN.fullmatch(name) or len(name) > MAX_NAME:
        rule = f"at most {MAX_NAME} lower-case letters and digits, with single hyphens inside, beginning with a letter"
        raise InvalidRequest(f"{name!r:.60} is not a name for an app: it is {rule}.")


def make_app(name: str, parent: Path, kind: Kind = "agent") -> Path:
    """The folder `parent/name` with a working app. Raises `InvalidRequest` for a name, a kind or a place that does not
    do."""
    require_name(name)
    if kind not in get_args(Kind):
        raise InvalidRequest(f"{kind!r:.60} is no kind of app; there are {', '.join(KINDS)}.")
    folder = parent / name
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise InvalidRequest(f"{folder} exists and is not empty.")
    answers = {"app_name": name, "kind": kind, "wheel": NAME}
    render(folder, answers)
    write_answers(folder, answers)
    write_wheel(folder / "wheels")
    return folder


def render(folder: Path, answers: Mapping[str, Any]) -> None:
    """The template's files, filled in."""
    from copier import run_copy

    with as_file(files("lakemesh.deploy") / "template") as template:
        run_copy(str(template), folder, dict(answers), defaults=True, overwrite=True, quiet=True)


def update_app(folder: Path) -> list[str]:
    """Bring what the template changed since the folder was made, and keep what was changed here. Returned are the files
    that both changed in the same place, where Git's marks stand. Raises `NotFound` where nothing was made by
    `make_app`, `Conflict` when something is not committed, and `InvalidRequest` or `Unavailable` with what to do."""
    answers = read_answers(folder)
    before = str(answers["_commit"])
    with history(folder / "wheels" / str(answers["wheel"]), before) as (template, now):
        passing = folder / PASSING_ANSWERS
        passing.parent.mkdir(exist_ok=True)
        passing.write_text(yaml.safe_dump({**answers, "_src_path": str(template)}))
        try:
            run_update(folder, now)
        finally:
            passing.unlink()
    if answers["wheel"] != NAME:
        (folder / "wheels" / str(answers["wheel"])).unlink()
    write_wheel(folder / "wheels")
    write_answers(folder, {**answers, "wheel": NAME})
    return git(folder, "diff", "--name-only", "--diff-filter=U", "--relative").splitlines()


def run_update(folder: Path, version: str) -> None:
    from copier import run_update as update
    from copier.errors import CopierError, UserMessageError

    try:
        update(
            folder,
            {"wheel": NAME},
            answers_file=PASSING_ANSWERS,
            vcs_ref=version,
            defaults=True,
            overwrite=True,
            quiet=True,
            skip_answered=True,
        )
    except UserMessageError as error:
        text = str(error)
        if "dirty" in text:
            raise Conflict(
                "Commit your changes first (git add --all && git commit): the update comes beside them."
            ) from None
        if "git-tracked subprojects" in text:
            raise Conflict("The folder has to be in Git, committed: git init && git add --all && git commit.") from None
        raise InvalidRequest(text) from None
    except CopierError as error:
        raise InvalidRequest(f"The template cannot be brought up to date: {error}") from None


@contextmanager
def history(old_wheel: Path, before: str) -> Iterator[tuple[Path, str]]:
    """A Git repository of the template as it was and as it is, and what it is called as it is."""
    if not old_wheel.is_file():
        raise NotFound(f"There is no {old_wheel}: the lakemesh that made this folder. Take it out of Git's history.")
    with tempfile.TemporaryDirectory(prefix="lakemesh-template-") as temporary:
        repository = Path(temporary)
        git(repository, "init", "--quiet")
        unpack_template(old_wheel, repository)
        commit(repository, before)
        for path in repository.iterdir():
            if path.name != ".git":
                shutil.rmtree(path) if path.is_dir() else path.unlink()
        with as_file(files("lakemesh.deploy") / "template") as template:
            shutil.copytree(
                template, repository, dirs_exist_ok=True, ignore=shutil.ignore_patterns("__pycache__", ".*_cache")
            )
        now = __version__ if __version__ != before else f"{__version__}.post1"
        commit(repository, now)
        yield repository, now


def unpack_template(wheel: Path, target: Path) -> None:
    """Raises `InvalidRequest` when the wheel is none, or from before there were updates."""
    try:
        with zipfile.ZipFile(wheel) as archive:
            names = [name for name in archive.namelist() if name.startswith(TEMPLATE) and not name.endswith("/")]
            for name in names:
                place = target / name.removeprefix(TEMPLATE)
                if not place.resolve().is_relative_to(target.resolve()):
                    raise InvalidRequest(f"{wheel} is no wheel of lakemesh.")
                place.parent.mkdir(parents=True, exist_ok=True)
                place.write_bytes(archive.read(name))
    except zipfile.BadZipFile:
        raise InvalidRequest(f"{wheel} cannot be read as a wheel.") from None
    if not (target / "copier.yml").is_file():
        raise InvalidRequest(f"{wheel} is older than updates are: make a new app and take your files over.")


def commit(repository: Path, tag: str) -> None:
    git(repository, "add", "--all", "--force")
    author = ("-c", "user.name=lakemesh", "-c", "user.email=lakemesh@localhost", "-c", "commit.gpgsign=false")
    git(repository, *author, "commit", "--quiet", "--allow-empty", "--no-verify", "--message", tag)
    git(repository, "-c", "tag.gpgsign=false", "tag", tag)


def git(folder: Path, *arguments: str) -> str:
    """What it says. Raises `Unavailable` without Git, `Conflict` with what it complains about."""
    try:
        done = subprocess.run(  # noqa: S603
            ["git", *arguments],  # noqa: S607
            cwd=folder,
            capture_output=True,
            text=True,
            timeout=GIT_SECONDS,
            check=False,
        )
    except FileNotFoundError:
        raise Unavailable("An update needs Git: install it, and have the folder in a repository.") from None
    if done.returncode:
        raise Conflict(f"git {arguments[0]} failed: {(done.stderr.splitlines() or ['it said nothing'])[-1]}")
    return done.stdout


def read_answers(folder: Path) -> dict[str, Any]:
    """What the folder was made with. Raises `NotFound`."""
    with suppress(OSError, yaml.YAMLError):
        answers = yaml.safe_load((folder / ANSWERS).read_text())
        if isinstance(answers, dict) and {"_commit", "app_name", "kind", "wheel"} <= answers.keys():
            return answers
    raise NotFound(
        f"There is no {folder / ANSWERS}: this folder was not made by `lakemesh init`, or before updates were."
    )


def write_answers(folder: Path, answers: Mapping[str, Any]) -> None:
    kept = {**answers, "_src_path": "lakemesh", "_commit": __version__}
    (folder / ANSWERS).write_text(f"# What `lakemesh init --update` goes by; not to be edited.\n{yaml.safe_dump(kept)}")
