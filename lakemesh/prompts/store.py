"""Every version of every prompt, in memory, read again from the volume while the server runs."""

import asyncio
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import structlog
from opentelemetry.trace import Tracer

from lakemesh.config.prompts import PromptsConfig
from lakemesh.errors import InvalidRequest, LakemeshError, NotFound
from lakemesh.lakehouse.volumes import VolumeEntry, Volumes
from lakemesh.prompts.templates import MAX_FILE_BYTES, Prompt, parse_file_name, parse_prompt, render
from lakemesh.prompts.versions import DEFAULT, choose_version
from lakemesh.scope import PromptUse, current_scope

if TYPE_CHECKING:
    from lakemesh.prompts.sandbox import PromptEnvironment

logger = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class RenderedPrompt:
    """A prompt's text, and what its file says about how to use it."""

    name: str
    version: int
    label: str
    text: str
    route: str | None = None
    temperature: float | None = None
    output_schema: Mapping[str, Any] | None = None


class PromptStore:
    """Prompts are `<name>_v<N>.txt` or `.jinja` files, both Jinja2 templates (text without `{{` or `{%` is one, too).
    A file that is broken, or whose new content is, is reported; the last good content of it keeps serving, as all
    prompts do while the volume is away. Rendering never waits for the volume."""

    def __init__(self, config: PromptsConfig, *, volumes: Volumes, tracer: Tracer) -> None:
        self._volumes = volumes
        self._tracer = tracer
        self._prompts: dict[str, dict[int, Prompt]] = {}
        self._seen: dict[str, VolumeEntry] = {}
        self._faults: dict[str, str] = {}
        self._environment: PromptEnvironment | None = None
        self._task: asyncio.Task[None] | None = None
        self._subscribers: list[Callable[[], None]] = []
        self.configure(config)

    def configure(self, config: PromptsConfig) -> None:
        """Take new selections while running; a new volume is read with the next refresh."""
        self._config = config

    async def start(self) -> None:
        """Read the volume once, then keep it fresh. A volume that is away is no reason not to start."""
        await self.refresh()
        self._task = asyncio.ensure_future(self._refresh_forever())

    async def close(self) -> None:
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait([self._task])

    def subscribe(self, subscriber: Callable[[], None]) -> None:
        """Have `subscriber` called after every refresh that changed something. It must be quick."""
        self._subscribers.append(subscriber)

    async def refresh(self) -> bool:
        """Read what changed; True when something did. Raises nothing: faults are kept for `health`."""
        try:
            entries = await self._volumes.list_directory(self._config.volume)
        except LakemeshError as error:
            if self._prompts or not isinstance(error, NotFound):
                self._faults["volume"] = error.detail
            return False
        self._faults.pop("volume", None)
        files = self._prompt_files(entries)
        changed = [entry for name, entry in files.items() if self._seen.get(name) != entry]
        gone = [name for name in self._seen if name not in files]
        for name in gone:
            self._forget(name)
        for entry in changed:
            await self._read(entry)
        if changed or gone:
            for subscriber in self._subscribers:
                subscriber()
        return bool(changed or gone)

    def render(self, name: str, variables: Mapping[str, Any], *, session_id: str | None = None) -> RenderedPrompt:
        """The prompt's text in the version that configuration chooses for this session, or, in an A/B test without
        one, for this execution. Raises `NotFound` and, for variables that do not fit, `InvalidRequest`."""
        scope = current_scope()
        sticky_key = session_id or (scope.session_id or scope.execution_id if scope else "")
        prompt, label = self._choose(name, sticky_key)
        attributes: dict[str, str | int] = {
            "gen_ai.prompt.name": name,
            "lakemesh.prompt.version": prompt.version,
            "lakemesh.prompt.label": label,
        }
        with self._tracer.start_as_current_span(f"render_prompt {name}", attributes=attributes):
            text = render(prompt, variables)
        if scope is not None:
            scope.prompt_uses.append(PromptUse(name=name, version=prompt.version, label=label))
        return RenderedPrompt(
            name=name,
            version=prompt.version,
            label=label,
            text=text,
            route=prompt.matter.route,
            temperature=prompt.matter.temperature,
            output_schema=prompt.matter.output_schema,
        )

    def get(self, name: str, version: int | None = None) -> Prompt:
        """A version as it is written; the one served outside of any session when none is named. Raises `NotFound`."""
        if version is None:
            return self._choose(name, "")[0]
        found = self._prompts.get(name, {}).get(version)
        if found is None:
            raise NotFound(f"There is no prompt {name!r:.60} in version {version}.")
        return found

    def list_versions(self) -> dict[str, list[int]]:
        """Every prompt's versions, as numbers in their order."""
        return {name: sorted(versions) for name, versions in sorted(self._prompts.items())}

    def variables(self) -> dict[str, frozenset[str]]:
        """Every prompt and the variables that the version needs which is served outside of any session."""
        found: dict[str, frozenset[str]] = {}
        for name in self._prompts:
            with suppress(NotFound):  # a selection of a version that is not there
                found[name] = self.get(name).variables
        return found

    def health(self) -> dict[str, Any]:
        return {"prompts": len(self._prompts), "degraded": dict(self._faults) or None}

    def _choose(self, name: str, sticky_key: str) -> tuple[Prompt, str]:
        versions = self._prompts.get(name)
        if not versions:
            known = ", ".join(sorted(self._prompts)) or "none"
            raise NotFound(f"There is no prompt {name!r:.60}; there are: {known}.")
        selection = self._config.selections.get(name, DEFAULT)
        version, label = choose_version(name, versions, selection, sticky_key)
        return versions[version], label

    def _prompt_files(self, entries: Sequence[VolumeEntry]) -> dict[str, VolumeEntry]:
        """The files that are prompts, by name. Of a version given as `.jinja` and as `.txt` the first is taken."""
        files: dict[str, VolumeEntry] = {}
        taken: dict[tuple[str, int], str] = {}
        for entry in sorted(entries, key=lambda entry: entry.name):
            version = None if entry.is_directory else parse_file_name(entry.name)
            if version is None:
                continue
            if version in taken:
                self._faults[entry.name] = f"{taken[version]} is the same version and is served."
            else:
                taken[version] = entry.name
                files[entry.name] = entry
        for name in self._faults.keys() - {entry.name for entry in entries}:
            del self._faults[name]
        return files

    async def _read(self, entry: VolumeEntry) -> None:
        parsed = parse_file_name(entry.name)
        assert parsed is not None
        name, version = parsed
        try:
            if entry.size_bytes > MAX_FILE_BYTES:
                raise InvalidRequest(f"{entry.name} is larger than {MAX_FILE_BYTES} bytes.")
            content = await self._volumes.read(entry.path)
            prompt = parse_prompt(name, version, content, self._open_environment())
        except LakemeshError as error:
            self._faults[entry.name] = error.detail
            logger.warning("prompt not read", file=entry.name, reason=error.detail)
            if isinstance(error, InvalidRequest):
                self._seen[entry.name] = entry
            return
        self._faults.pop(entry.name, None)
        self._seen[entry.name] = entry
        self._prompts = {**self._prompts, name: {**self._prompts.get(name, {}), version: prompt}}

    def _open_environment(self) -> "PromptEnvironment":
        if self._environment is None:
            from lakemesh.prompts.sandbox import PromptEnvironment

            self._environment = PromptEnvironment()
        return self._environment

    def _forget(self, file_name: str) -> None:
        self._seen.pop(file_name)
        self._faults.pop(file_name, None)
        parsed = parse_file_name(file_name)
        assert parsed is not None
        name, version = parsed
        versions = {**self._prompts.get(name, {})}
        versions.pop(version, None)
        self._prompts = {**self._prompts, name: versions}
        if not versions:
            del self._prompts[name]

    async def _refresh_forever(self) -> None:
        while True:
            await asyncio.sleep(self._config.refresh_seconds)
            try:
                await self.refresh()
            except Exception:
                logger.exception("prompts not refreshed")
