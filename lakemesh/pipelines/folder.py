"""The files of a pipeline in a folder: written whole, and never over what somebody else has changed."""

import hashlib
import json
import re
from collections.abc import Mapping
from pathlib import Path

from lakemesh.errors import Conflict, InvalidRequest
from lakemesh.pipelines.definition import MAX_TEXT, PipelineDefinition, read_definition

MANIFEST = ".lakemesh-pipeline.json"
SAFE = re.compile(r"[A-Za-z0-9_.-]+(/[A-Za-z0-9_.-]+)*")


def write_files(folder: Path, files: Mapping[str, str], *, definition: PipelineDefinition) -> list[str]:
    """The paths that were written, changed or removed. Raises `Conflict`, before anything is written, when a file that
    would be replaced is not as lakemesh wrote it."""
    written = read_manifest(folder)
    if changed := sorted(path for path in {*files, *written} if touched(folder, path, written)):
        raise Conflict(
            f"{', '.join(changed)} in {folder} were changed by hand; move them away, or change the definition."
        )
    done = []
    for path, text in files.items():
        if not SAFE.fullmatch(path) or ".." in path:
            raise InvalidRequest(f"{path!r:.100} is not the path of a pipeline's file.")
        place = folder / path
        if not place.exists() or digest(place) != hash_of(text):
            place.parent.mkdir(parents=True, exist_ok=True)
            place.write_text(text)
            done.append(path)
    for path in sorted(written.keys() - files.keys()):
        (folder / path).unlink(missing_ok=True)
        done.append(path)
    manifest = {"definition": definition.digest, "files": {path: hash_of(text) for path, text in files.items()}}
    (folder / MANIFEST).write_text(json.dumps(manifest, indent=1, sort_keys=True) + "\n")
    return done


def touched(folder: Path, path: str, written: Mapping[str, str]) -> bool:
    place = folder / path
    return place.exists() and digest(place) != written.get(path)


def read_manifest(folder: Path) -> dict[str, str]:
    """The digests of what lakemesh wrote there, by path."""
    place = folder / MANIFEST
    try:
        files = json.loads(place.read_text())["files"]
    except FileNotFoundError:
        return {}
    except (ValueError, KeyError, TypeError):
        raise Conflict(f"{place} cannot be read; move it away.") from None
    return {path: value for path, value in files.items() if SAFE.fullmatch(path) and ".." not in path}


def digest(place: Path) -> str:
    return hashlib.sha256(place.read_bytes()).hexdigest()


def hash_of(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


def load_definition(place: Path) -> PipelineDefinition:
    """The definition in a file, or in the folder of a pipeline. Raises `InvalidRequest` and `ValidationFailed`."""
    place = place / "definition.yaml" if place.is_dir() else place
    try:
        with place.open("rb") as file:
            content = file.read(MAX_TEXT * 4 + 1)
        return read_definition(content.decode())
    except (OSError, UnicodeDecodeError) as error:
        raise InvalidRequest(f"{place} cannot be read: {getattr(error, 'strerror', None) or error}.") from None
