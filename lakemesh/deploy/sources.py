"""Where an app's sources lie in the workspace: a few numbered folders, each with a manifest of what it holds.

A new source goes into the folder that was used longest ago; only the files that differ from what lies there are sent.
The folder that runs and those before it stay as they are: the way back.
"""

import hashlib
import json
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

from lakemesh.deploy import workspace_files
from lakemesh.deploy.resources.base import Target, absolute
from lakemesh.deploy.state import Release

MANIFEST = ".lakemesh-source.json"
FOLDERS = 4
"""The running source, two before it, and the one being written."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Manifest:
    """SHA-256 of each file by path, and the `digest` of all."""

    digest: str
    files: Mapping[str, str]


class Sources:
    """The numbered folders of one deployment. Manifests are read once: whoever changes a folder says so here."""

    def __init__(self, target: Target, *, running: str | None, releases: Sequence[Release]) -> None:
        self._target = target
        self.parent = f"{absolute(target.bundle.root_path)}/source"
        self.running = running
        self._releases = releases
        self._manifests = read_manifests(target, self.parent)

    def manifest(self, folder: str) -> Manifest | None:
        """None for a folder that is not there, or was not filled to its end."""
        return self._manifests.get(folder)

    def find(self, digest: str) -> str | None:
        """The folder that holds this source; the running one when several do."""
        found = [folder for folder, manifest in self._manifests.items() if manifest and manifest.digest == digest]
        return self.running if self.running in found else next(iter(found), None)

    def place_for(self, digest: str) -> str:
        """The folder that holds the source, or the one it goes into."""
        known = self.find(digest)
        if known is not None:
            return known
        ages = {release.folder: age for age, release in enumerate(self._releases)}
        numbered = [f"{self.parent}/{number}" for number in range(1, FOLDERS + 1)]
        free = [folder for folder in numbered if folder != self.running]
        return max(free, key=lambda folder: ages.get(folder, len(ages)))

    def upload(self, folder: str, contents: Mapping[str, bytes], digest: str) -> int:
        """Make the folder hold exactly `contents`; how many files were sent. The manifest goes first and comes back
        last, so that a folder that was not filled to its end is never taken for a source."""
        there = self._manifests.pop(folder, None)
        wanted = {path: hashlib.sha256(content).hexdigest() for path, content in contents.items()}
        if there is None:
            workspace_files.delete(self._target, folder)
        else:
            workspace_files.delete(self._target, f"{folder}/{MANIFEST}")
            for path in set(there.files) - set(wanted):
                workspace_files.delete(self._target, f"{folder}/{path}")
        former = there.files if there else {}
        sent = {path: content for path, content in contents.items() if former.get(path) != wanted[path]}
        workspace_files.write_files(self._target, folder, sent)
        manifest = json.dumps({"digest": digest, "files": wanted}).encode()
        workspace_files.write_file(self._target, f"{folder}/{MANIFEST}", manifest)
        self._manifests[folder] = Manifest(digest=digest, files=wanted)
        return len(sent)

    def delete(self) -> None:
        workspace_files.delete(self._target, self.parent)
        self._manifests.clear()

    def clean(self) -> None:
        """Folders of earlier versions of lakemesh, which named them by their content."""
        numbered = {f"{self.parent}/{number}" for number in range(1, FOLDERS + 1)}
        for folder in workspace_files.list_folder(self._target, self.parent):
            if folder not in numbered and folder != self.running:
                workspace_files.delete(self._target, folder)


def read_manifests(target: Target, parent: str) -> dict[str, Manifest | None]:
    folders = workspace_files.list_folder(target, parent)
    if not folders:
        return {}
    with ThreadPoolExecutor(len(folders)) as pool:
        found = pool.map(lambda folder: workspace_files.read_json(target, f"{folder}/{MANIFEST}"), folders)
        return {
            folder: Manifest(digest=str(content["digest"]), files=content["files"]) if content else None
            for folder, content in zip(folders, found, strict=True)
        }
