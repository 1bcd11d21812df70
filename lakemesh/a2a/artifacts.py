"""What a running task has made so far, piece by piece."""

from collections.abc import Iterator, Sequence
from typing import Any

from pydantic_core import to_json

from lakemesh.a2a.parts import TEXT, part_of, result_part
from lakemesh.schemas import ArtifactPart

TEXT_ID, RESULT_ID = "text", "result"
MAX_KEPT_BYTES = 4_000_000
"""What a task keeps of its pieces; its listeners get all of them. The result is kept whatever its size."""
MAX_ARTIFACTS = 100

Update = dict[str, Any]


class Artifact:
    """One artifact. Text that comes in pieces is kept as one part."""

    def __init__(self, artifact_id: str, name: str | None) -> None:
        self._head = {"artifactId": artifact_id, **({"name": name} if name else {})}
        self._parts: list[dict[str, Any]] = []
        self._texts: list[str] = []
        self.open = True

    @property
    def text(self) -> str:
        return "".join(self._texts)

    def add(self, part: dict[str, Any], *, append: bool) -> None:
        if not append:
            self._parts, self._texts = [], []
        if part.keys() <= {"text", "mediaType"} and "text" in part and (self._texts or not self._parts):
            self._texts.append(part["text"])
        else:
            self._parts = self._all_parts()
            self._texts = []
            self._parts.append(part)

    def view(self, *parts: dict[str, Any]) -> dict[str, Any]:
        return {**self._head, "parts": list(parts) or self._all_parts() or [{"text": ""}]}

    def _all_parts(self) -> list[dict[str, Any]]:
        texts = [{"text": self.text, "mediaType": TEXT}] if self._texts else []
        return [*self._parts, *texts]


class Artifacts:
    """The artifacts of one task. Every method gives the updates that listeners are told."""

    def __init__(self, modes: Sequence[str]) -> None:
        self._modes = modes
        self._made: dict[str, Artifact] = {}
        self._kept_bytes = 0

    def view(self) -> list[dict[str, Any]]:
        return [artifact.view() for artifact in self._made.values()]

    def add_text(self, text: str) -> Update:
        """The next piece of the text that the agent writes."""
        part = {"text": text, "mediaType": TEXT}
        return self._add(TEXT_ID, TEXT_ID, part, len(text), append=TEXT_ID in self._made)

    def add(self, event: ArtifactPart) -> Update:
        part = part_of(event)
        append = event.append and event.artifact_id in self._made
        update = self._add(event.artifact_id, event.name, part, len(to_json(part)), append=append)
        if event.last:
            self._made[event.artifact_id].open = False
            update["lastChunk"] = True
        return update

    def finish(self, result: Any) -> Iterator[Update]:
        """The result; where it is the very text that was written, only that this is whole."""
        written = self._made.get(TEXT_ID)
        yield from self.close()
        if isinstance(result, str) and written is not None and written.text == result:
            return
        artifact = self._made[RESULT_ID] = Artifact(RESULT_ID, RESULT_ID)
        artifact.add(result_part(result, self._modes), append=False)
        yield {"artifact": artifact.view(), "lastChunk": True}

    def close(self) -> Iterator[Update]:
        """That what was not said to be whole is so."""
        for artifact in self._made.values():
            if artifact.open:
                artifact.open = False
                yield {"artifact": artifact.view({"text": ""}), "append": True, "lastChunk": True}

    def _add(self, artifact_id: str, name: str | None, part: dict[str, Any], size: int, *, append: bool) -> Update:
        artifact = self._made.get(artifact_id)
        if artifact is None:
            if len(self._made) >= MAX_ARTIFACTS:
                artifact_id = next(reversed(self._made))
            artifact = self._made.setdefault(artifact_id, Artifact(artifact_id, name))
        if self._kept_bytes + size <= MAX_KEPT_BYTES:
            self._kept_bytes += size
            artifact.add(part, append=append)
        return {"artifact": artifact.view(part), "append": append}
