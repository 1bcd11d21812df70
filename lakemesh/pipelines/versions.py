"""A pipeline's versions: each run of the builder commits on a branch of its own, and proposes it for the main one."""

import hashlib
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol

from lakemesh.errors import Conflict, InvalidRequest
from lakemesh.pipelines.definition import PipelineDefinition, read_definition
from lakemesh.pipelines.repository import Author, LocalRepository

MANIFEST = ".lakemesh-pipeline.json"
AUTHOR = Author("lakemesh", "lakemesh@users.noreply.github.com")
RUN = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,63}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Provenance:
    """Who made a version, and of what: it stands in the commit's message as trailers, and in the pipeline's
    configuration. `prompt` and `model` are empty where no model was asked."""

    run: str
    definition: str
    request: str = ""
    user: str = ""
    prompt: str = ""
    model: str = ""
    at_seconds: int = 0

    def trailers(self) -> str:
        given = {"Run": self.run, "Definition": self.definition, "Asked-By": self.user, "Prompt": self.prompt,
                 "Model": self.model}  # fmt: skip
        return "\n".join(f"Lakemesh-{name}: {' '.join(value.split())}" for name, value in given.items() if value)

    def configuration(self) -> dict[str, str]:
        given = {"run": self.run, "definition": self.definition, "prompt": self.prompt, "model": self.model}
        return {f"lakemesh.{name}": value for name, value in given.items() if value}


@dataclass(frozen=True, slots=True, kw_only=True)
class Version:
    """`proposal` is the address of the pull request, where there is a provider."""

    branch: str
    commit: str
    proposal: str | None = None


class Repository(Protocol):
    """Where branches are kept: a repository on this machine, or at a provider."""

    @property
    def default_branch(self) -> str: ...

    def files_of(self, branch: str, folder: str = "") -> dict[str, bytes]: ...

    def commit(
        self, branch: str, *, base: str, folder: str, files: Mapping[str, bytes], message: str, author: Author,
        at_seconds: int,
    ) -> str: ...  # fmt: skip


def branch_of(definition: PipelineDefinition, run: str) -> str:
    """Raises `InvalidRequest` for a run that is no part of a branch's name."""
    if not RUN.fullmatch(run):
        raise InvalidRequest(f"{run!r:.100} is no name of a run: letters, digits, _ and -.")
    return f"agent/{definition.name}/{run}"


def commit_version(
    repository: Repository, definition: PipelineDefinition, files: Mapping[str, str], provenance: Provenance
) -> Version:
    """The files on a branch of the run's own, beside what the main branch holds. The same run of the same definition
    gives the same commit, however often it is begun again. Raises `Conflict` where somebody else changed a file that
    was made here, or where the branch holds something else."""
    base = repository.default_branch
    folder = folder_of(definition)
    there = repository.files_of(base, folder)
    require_unchanged(there, folder)
    made = {path: text.encode() for path, text in files.items()}
    made[MANIFEST] = manifest_of(made)
    unknown = {path: content for path, content in there.items() if path not in manifest_in(there)}
    if clash := sorted((unknown.keys() & made.keys()) - {MANIFEST}):
        raise Conflict(f"{folder}/{clash[0]} is somebody else's file; move it away.")
    branch = branch_of(definition, provenance.run)
    unknown.pop(MANIFEST, None)
    commit = repository.commit(
        branch, base=base, folder=folder, files={**unknown, **made}, message=message_of(definition, provenance),
        author=AUTHOR, at_seconds=provenance.at_seconds,
    )  # fmt: skip
    return Version(branch=branch, commit=commit)


def folder_of(definition: PipelineDefinition) -> str:
    return f"pipelines/{definition.name}"


def message_of(definition: PipelineDefinition, provenance: Provenance) -> str:
    about = definition.description.rstrip(".") or f"{len(definition.datasets)} datasets"
    return f"Pipeline {definition.name}: {about[:120]}\n\n{provenance.trailers()}\n"


def manifest_of(files: Mapping[str, bytes]) -> bytes:
    digests = {path: hashlib.sha256(content).hexdigest() for path, content in sorted(files.items())}
    return (json.dumps({"files": digests}, indent=1) + "\n").encode()


def manifest_in(files: Mapping[str, bytes]) -> dict[str, str]:
    try:
        found: dict[str, str] = json.loads(files.get(MANIFEST, b"{}")).get("files", {})
    except (ValueError, AttributeError):
        raise Conflict(f"{MANIFEST} cannot be read; move it away.") from None
    return found


def require_unchanged(files: Mapping[str, bytes], folder: str) -> None:
    for path, digest in manifest_in(files).items():
        if path in files and hashlib.sha256(files[path]).hexdigest() != digest:
            raise Conflict(f"{folder}/{path} was changed by hand; put the change into the definition first.")


def version_before(repository: LocalRepository, name: str, branch: str) -> PipelineDefinition:
    """The definition of a pipeline as a branch holds it. Raises `NotFound` and `InvalidRequest`."""
    content = repository.files_of(branch, f"pipelines/{name}").get("definition.yaml")
    if content is None:
        raise InvalidRequest(f"{branch} holds no pipeline {name}.")
    return read_definition(content.decode())
