"""The prompt files of one volume, as versions: what is good is kept until something better is there.

A file that is broken, half written, emptied or gone does not take away what serves: the version's other file does, or
its last good content, as long as configuration or nothing else asks for it (`Library.refresh`).
"""

import asyncio
import hashlib
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import structlog

from lakemesh.config.prompts import PromptSelection
from lakemesh.errors import InvalidRequest, LakemeshError, NotFound
from lakemesh.lakehouse.volumes import VolumeEntry, Volumes
from lakemesh.prompts.selections import FILE_NAME, Selections, parse_selections
from lakemesh.prompts.templates import MAX_FILE_BYTES, Prompt, parse_file_name, parse_prompt

if TYPE_CHECKING:
    from lakemesh.prompts.sandbox import PromptEnvironment

logger = structlog.get_logger(__name__)

Version = tuple[str, int]
RACY_SECONDS = 3.0
"""A file that was written this shortly before it was read may change again without its time or size telling."""
STABLE_SECONDS = 0.1
"""Between two looks at files that changed: what is still being written differs."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SeenFile:
    """A file as it was read. `racy` files are read again with every refresh."""

    entry: VolumeEntry
    digest: str
    prompt: Prompt | None
    racy: bool


class Library:
    """`prompts` is replaced, never changed, so a reader sees one state of it."""

    def __init__(self, volume: str, volumes: Volumes) -> None:
        self.volume = volume
        self.prompts: Mapping[str, Mapping[int, Prompt]] = {}
        self.faults: Mapping[str, str] = {}
        self.selections: Mapping[str, PromptSelection] = {}
        self._volumes = volumes
        self._seen: dict[str, SeenFile] = {}
        self._environment: PromptEnvironment | None = None
        self._refreshing = asyncio.Lock()

    @property
    def is_away(self) -> bool:
        return "volume" in self.faults

    def get(self, name: str, version: int) -> Prompt | None:
        return self.prompts.get(name, {}).get(version)

    async def refresh(self, needed: Iterable[Version] = ()) -> bool:
        """Read what changed; True when something did. `needed` versions are kept although their files are gone.
        Raises nothing: what is wrong is in `faults`."""
        async with self._refreshing:
            try:
                entries = await self._volumes.list_directory(self.volume)
            except LakemeshError as error:
                if self.prompts or not isinstance(error, NotFound):
                    self.faults = {**self.faults, "volume": error.detail}
                return False
            chosen = {(name, version) for name, one in self.selections.items() for version in one.served()}
            different = await self._take(by_version(entries), frozenset(needed) | chosen)
            return await self._take_selections() or different

    async def _take_selections(self) -> bool:
        """What operators chose; a choice of what is not there is named, and the former one stays in force."""
        try:
            file = parse_selections(await self._volumes.read(f"{self.volume}/{FILE_NAME}"))
        except NotFound:
            file = Selections()
        except LakemeshError as error:
            self.faults = {**self.faults, FILE_NAME: error.detail}
            return False
        taken: dict[str, PromptSelection] = {}
        for name, chosen in file.prompts.items():
            missing = set(chosen.selection.served()) - self.prompts.get(name, {}).keys()
            if not missing:
                taken[name] = chosen.selection
                continue
            self.faults = {**self.faults, FILE_NAME: f"{name} has no version {min(missing)}."}
            if name in self.selections:
                taken[name] = self.selections[name]
        different = taken != self.selections
        self.selections = taken
        return different

    async def _take(self, files: Mapping[Version, Sequence[VolumeEntry]], needed: frozenset[Version]) -> bool:
        faults: dict[str, str] = {}
        listed = {entry.name: entry for entries in files.values() for entry in entries}
        self._seen = {name: seen for name, seen in self._seen.items() if name in listed}
        changed = [entry for entry in listed.values() if self._is_new(entry)]
        await self._read_all(changed, faults)
        prompts: dict[str, dict[int, Prompt]] = {}
        for (name, version), entries in files.items():
            good = [(entry, seen.prompt) for entry in entries if (seen := self._seen.get(entry.name)) and seen.prompt]
            for entry in entries:
                if good and entry is not good[0][0] and entry.name not in faults:
                    faults[entry.name] = f"{good[0][0].name} is the same version and is served."
            prompt = good[0][1] if good else self.get(name, version)
            if prompt is not None:
                prompts.setdefault(name, {})[version] = prompt
        for name, version in needed - files.keys():
            if (kept := self.get(name, version)) is not None:
                prompts.setdefault(name, {})[version] = kept
                faults[f"{name}_v{version}"] = "its file is gone; it is served on, since configuration selects it."
        different = prompts != self.prompts
        self.prompts, self.faults = prompts, faults
        return different

    def _is_new(self, entry: VolumeEntry) -> bool:
        seen = self._seen.get(entry.name)
        return seen is None or seen.racy or seen.entry != entry or seen.prompt is None

    async def _read_all(self, entries: Sequence[VolumeEntry], faults: dict[str, str]) -> None:
        """Read twice what was written a moment ago, so that a half-written file is not taken for a whole one."""
        first = {entry.name: await self._read(entry, faults) for entry in entries}
        recent = [entry for entry in entries if is_recent(entry) and entry.name not in faults]
        if recent:
            await asyncio.sleep(STABLE_SECONDS)
        for entry in entries:
            content = first[entry.name]
            if content is None:
                continue
            if entry in recent and content != await self._read(entry, faults):
                faults[entry.name] = "it is being written; it is read again with the next refresh."
                continue
            self._parse(entry, content, faults)

    async def _read(self, entry: VolumeEntry, faults: dict[str, str]) -> bytes | None:
        if entry.size_bytes > MAX_FILE_BYTES:
            faults[entry.name] = f"{entry.name} is larger than {MAX_FILE_BYTES} bytes."
            return None
        try:
            return await self._volumes.read(entry.path)
        except LakemeshError as error:
            faults[entry.name] = error.detail
            return None

    def _parse(self, entry: VolumeEntry, content: bytes, faults: dict[str, str]) -> None:
        digest = hashlib.sha256(content).hexdigest()
        racy = is_recent(entry)
        before = self._seen.get(entry.name)
        if before is not None and before.prompt is not None and before.digest == digest:
            self._seen[entry.name] = SeenFile(entry=entry, digest=digest, prompt=before.prompt, racy=racy)
            return
        named = parse_file_name(entry.name)
        assert named is not None
        try:
            if not content.strip():
                raise InvalidRequest(f"{entry.name} is empty.")
            prompt = parse_prompt(*named, content, self._open_environment())
        except InvalidRequest as error:
            faults[entry.name] = error.detail
            self._seen.pop(entry.name, None)
            logger.warning("prompt not read", file=entry.name, reason=error.detail)
            return
        self._seen[entry.name] = SeenFile(entry=entry, digest=digest, prompt=prompt, racy=racy)

    def _open_environment(self) -> "PromptEnvironment":
        if self._environment is None:
            from lakemesh.prompts.sandbox import PromptEnvironment

            self._environment = PromptEnvironment()
        return self._environment


def by_version(entries: Sequence[VolumeEntry]) -> dict[Version, list[VolumeEntry]]:
    """The files that are prompts. Of a version given as `.jinja` and as `.txt` the first is meant."""
    files: dict[Version, list[VolumeEntry]] = {}
    for entry in sorted(entries, key=lambda entry: entry.name):
        version = None if entry.is_directory else parse_file_name(entry.name)
        if version is not None:
            files.setdefault(version, []).append(entry)
    return files


def is_recent(entry: VolumeEntry) -> bool:
    return time.time() - entry.modified_at < RACY_SECONDS
