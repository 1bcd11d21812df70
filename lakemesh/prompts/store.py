"""Every version of every prompt, in memory, read again from the volume while the server runs."""

import asyncio
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import structlog
from opentelemetry.trace import Tracer

from lakemesh.config.prompts import PromptsConfig
from lakemesh.errors import InvalidRequest, LakemeshError, NotFound
from lakemesh.lakehouse.volumes import VolumeEntry, Volumes
from lakemesh.prompts.templates import Prompt, parse_file_name, parse_prompt, render
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
    """Prompts are `<name>_v<N>.txt` or `.jinja` files, both Jinja2 templates. A file that is broken, or whose new
    content is, is reported; the last good content of it keeps serving. Rendering never waits for the volume."""

    def __init__(self, config: PromptsConfig, *, volumes: Volumes, tracer: Tracer) -> None:
        self._volumes = volumes
        self._tracer = tracer
        self._prompts: dict[str, dict[int, Prompt]] = {}
        self._seen: dict[str, VolumeEntry] = {}
        self._faults: dict[str, str] = {}
        self._environment: PromptEnvironment | None = None
        self._task: asyncio.Task[None] | None = None
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

    async def refresh(self) -> bool:
        """Read what changed; True when something did. Raises nothing: faults are kept for `health`."""
        try:
            entries = await self._volumes.list_directory(self._config.volume)
        except NotFound:
            entries = []
        except LakemeshError as error:
            self._faults["volume"] = error.detail
            return False
        self._faults.pop("volume", None)
        files = {entry.name: entry for entry in entries if parse_file_name(entry.name)}
        changed = [entry for name, entry in files.items() if self._seen.get(name) != entry]
        gone = [name for name in self._seen if name not in files]
        for name in gone:
            self._forget(name)
        for entry in changed:
            await self._read(entry)
        return bool(changed or gone)

    def render(self, name: str, variables: Mapping[str, Any], *, session_id: str | None = None) -> RenderedPrompt:
        """The prompt's text in the version that configuration chooses for this session. Raises `NotFound` and, for
        variables that do not fit, `InvalidRequest`."""
        scope = current_scope()
        session_id = session_id or (scope.session_id if scope else None)
        prompt, label = self._choose(name, session_id)
        with self._tracer.start_as_current_span(f"render_prompt {name}") as span:
            span.set_attribute("lakemesh.prompt.name", name)
            span.set_attribute("lakemesh.prompt.version", prompt.version)
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
            return self._choose(name, None)[0]
        found = self._prompts.get(name, {}).get(version)
        if found is None:
            raise NotFound(f"There is no prompt {name!r:.60} in version {version}.")
        return found

    def list_versions(self) -> dict[str, list[int]]:
        """Every prompt's versions, as numbers in their order."""
        return {name: sorted(versions) for name, versions in sorted(self._prompts.items())}

    def health(self) -> dict[str, Any]:
        return {"prompts": len(self._prompts), "degraded": dict(self._faults) or None}

    def _choose(self, name: str, session_id: str | None) -> tuple[Prompt, str]:
        versions = self._prompts.get(name)
        if not versions:
            known = ", ".join(sorted(self._prompts)) or "none"
            raise NotFound(f"There is no prompt {name!r:.60}; there are: {known}.")
        selection = self._config.selections.get(name, DEFAULT)
        version, label = choose_version(name, versions, selection, session_id)
        return versions[version], label

    async def _read(self, entry: VolumeEntry) -> None:
        parsed = parse_file_name(entry.name)
        assert parsed is not None
        name, version = parsed
        try:
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
        remaining: dict[str, dict[int, Prompt]] = defaultdict(dict)
        for name, versions in self._prompts.items():
            for version, prompt in versions.items():
                if (name, version) != parsed:
                    remaining[name][version] = prompt
        self._prompts = dict(remaining)

    async def _refresh_forever(self) -> None:
        while True:
            await asyncio.sleep(self._config.refresh_seconds)
            await self.refresh()
