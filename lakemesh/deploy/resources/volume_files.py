"""Configuration and prompts, from the app's folder into volumes."""

import difflib
import hashlib
import io
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from typing import ClassVar, TypeVar

from lakemesh.deploy.resources.base import Body, Difference, Resource, Target
from lakemesh.errors import Conflict, NotFound
from lakemesh.prompts.templates import parse_file_name

T = TypeVar("T")
MAX_LINES = 60


class VolumeFiles(Resource):
    """Files of one volume, compared by SHA-256. With `versioned`, a published prompt is never overwritten: its
    version means what it meant when it was served. Files that are only in the volume stay there."""

    is_release: ClassVar[bool] = True

    def __init__(self, volume: str, files: Mapping[str, bytes], target: Target, *, versioned: bool = False) -> None:
        super().__init__(f"files.{volume.rpartition('/')[2]}", {"name": volume}, target)
        self._versioned = versioned
        self._contents: dict[str, bytes] = {}
        self._desired = {name: self._keep(content) for name, content in files.items()}

    @property
    def desired(self) -> Body:
        return self._desired

    def read(self) -> Body | None:
        found = {}
        for name in self._desired:
            content = self._published(name)
            if content is not None:
                found[name] = self._keep(content)
                if self._versioned and found[name] != self._desired[name]:
                    raise published_already(name)
        return found or None

    def create(self) -> None:
        self.update(self.desired)

    def update(self, wanted: Body) -> None:
        """A file that is wanted with no digest was not there before, and is not afterwards."""
        for name, digest in wanted.items():
            path = f"{self.name}/{name}"
            if digest is None:
                self._call(lambda path=path: self.target.client.files.delete(path))  # type: ignore[misc]
            else:
                self._upload(path, self._contents[digest])

    def delete(self) -> None:
        """Of a run that failed; otherwise they go with their volume."""
        for name in self._desired:
            with suppress(NotFound):
                self._call(lambda name=name: self.target.client.files.delete(f"{self.name}/{name}"))  # type: ignore[misc]

    def explain(self, several: Mapping[str, Sequence[Difference]], actual: Body) -> list[str]:
        """The text's own difference, line by line."""
        lines: list[str] = []
        for name in several:
            was, now = (self._lines(body.get(name)) for body in (actual, self._desired))
            lines += difflib.unified_diff(was, now, f"{name} (published)", name, lineterm="", n=1)
        more = len(lines) - MAX_LINES
        return [*lines[:MAX_LINES], *([f"... and {more} more lines"] if more > 0 else [])]

    def _lines(self, digest: str | None) -> list[str]:
        return self._contents.get(digest or "", b"").decode(errors="replace").splitlines()

    def _keep(self, content: bytes) -> str:
        """The content's digest, under which `update` finds it, also to put back what was there."""
        digest = hashlib.sha256(content).hexdigest()
        self._contents[digest] = content
        return digest

    def _published(self, name: str) -> bytes | None:
        def download() -> bytes:
            answer = self.target.client.files.download(f"{self.name}/{name}")
            assert answer.contents is not None, "a download has contents"
            with answer.contents as stream:
                return stream.read()

        try:
            return self._call(download)
        except NotFound:
            return None

    def _upload(self, path: str, content: bytes) -> None:
        overwrite = not self._versioned
        self._call(lambda: self.target.client.files.upload(path, io.BytesIO(content), overwrite=overwrite))

    def _call(self, call: Callable[[], T]) -> T:
        from lakemesh.lakehouse.databricks.translation import translate

        try:
            return call()
        except Exception as error:  # a boundary: what the SDK raises becomes what we raise
            raise translate(error) from error


def published_already(name: str) -> Conflict:
    parsed = parse_file_name(name)
    advice = f"save the change as {parsed[0]}_v{parsed[1] + 1}" if parsed else "give the file a new name"
    return Conflict(f"{name} is published with other content, and published versions never change: {advice}.")
