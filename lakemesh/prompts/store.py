"""Every version of every prompt, in memory, read again from the volume while the server runs."""

import asyncio
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import Any

import structlog
from opentelemetry.trace import Tracer

from lakemesh.config.change import Change, Replacement
from lakemesh.config.prompts import PromptsConfig, PromptSelection
from lakemesh.errors import ConfigurationInvalid, NotFound
from lakemesh.lakehouse.volumes import Volumes
from lakemesh.prompts.library import Library
from lakemesh.prompts.templates import Prompt, render
from lakemesh.prompts.versions import DEFAULT, choose_version
from lakemesh.scope import PromptUse, current_scope, varied_prompt
from lakemesh.suggestions import did_you_mean

logger = structlog.get_logger(__name__)


CPU_SECONDS = 0.05
"""What a rendering may take of the event loop, which serves nobody else meanwhile."""
LARGE_CPU_SECONDS = 0.5


@dataclass(frozen=True, slots=True, kw_only=True)
class RenderedPrompt:
    """A prompt's text, and what its file says about how to use it."""

    name: str
    version: int
    label: str
    text: str
    route: str | None = None
    temperature: float | None = None


class PromptStore:
    """Prompts are `<name>_v<N>.txt` or `.jinja` files, both Jinja2 templates (text without `{{` or `{%` is one, too).
    A file that is broken, or whose new content is, is reported; the last good content of it keeps serving, as all
    prompts do while the volume is away. Rendering never waits for the volume."""

    def __init__(self, config: PromptsConfig, *, volumes: Volumes, tracer: Tracer) -> None:
        self._config = config
        self._volumes = volumes
        self._library = Library(config.volume, volumes)
        self._tracer = tracer
        self._task: asyncio.Task[None] | None = None
        self._wake = asyncio.Event()
        self._subscribers: list[Callable[[], None]] = []
        self._candidates: dict[str, Prompt] = {}

    async def prepare(self, config: PromptsConfig) -> Change:
        """New selections, or another volume. Prompts are read first, so that files and a configuration that selects
        them may come together. Raises `ConfigurationInvalid` for selections of what is not there."""
        library = self._library if config.volume == self._config.volume else Library(config.volume, self._volumes)
        if await library.refresh(needed_by(config)) and library is self._library:
            self._tell()
        require_selected(config, library)

        def take() -> None:
            changed = config != self._config
            self._config, self._library = config, library
            if changed:
                self._tell()

        return Replacement(take)

    async def start(self) -> None:
        """Read the volume once, then keep it fresh. A volume that is away is no reason not to start; a selection of
        what is not there is: raises `ConfigurationInvalid`."""
        await self.refresh()
        require_selected(self._config, self._library)
        self._task = asyncio.ensure_future(self._refresh_forever())

    async def close(self) -> None:
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait([self._task])

    def subscribe(self, subscriber: Callable[[], None]) -> None:
        """Have `subscriber` called after every refresh that changed something. It must be quick."""
        self._subscribers.append(subscriber)

    def request_refresh(self) -> None:
        """Refresh now instead of at the end of the interval."""
        self._wake.set()

    async def refresh(self) -> bool:
        """Read what changed; True when something did. Raises nothing: faults are kept for `health`."""
        changed = await self._library.refresh(needed_by(self._config))
        if changed:
            self._tell()
        return changed

    def _tell(self) -> None:
        for subscriber in self._subscribers:
            subscriber()

    def render(self, name: str, variables: Mapping[str, Any], *, session_id: str | None = None) -> RenderedPrompt:
        """The prompt's text in the version that configuration chooses for this session, or, in an A/B test without
        one, for this execution. Raises `NotFound` and, for variables that do not fit or a rendering that takes more
        than `CPU_SECONDS`, `InvalidRequest`."""
        return self._render(name, variables, session_id, CPU_SECONDS)

    async def render_large(
        self, name: str, variables: Mapping[str, Any], *, session_id: str | None = None
    ) -> RenderedPrompt:
        """The same in a thread, and up to `LARGE_CPU_SECONDS`: for prompts that loop over thousands of things."""
        return await asyncio.to_thread(self._render, name, variables, session_id, LARGE_CPU_SECONDS)

    def _render(
        self, name: str, variables: Mapping[str, Any], session_id: str | None, cpu_seconds: float
    ) -> RenderedPrompt:
        scope = current_scope()
        sticky_key = session_id or (scope.session_id or scope.root.execution_id if scope else "")
        prompt, label = self._choose(name, sticky_key)
        attributes: dict[str, str | int] = {
            "gen_ai.prompt.name": name,
            "lakemesh.prompt.version": prompt.version,
            "lakemesh.prompt.label": label,
        }
        with self._tracer.start_as_current_span(f"render_prompt {name}", attributes=attributes):
            text = render(prompt, variables, cpu_seconds=cpu_seconds)
        if scope is not None:
            scope.prompt_uses.append(PromptUse(name=name, version=prompt.version, label=label))
        return RenderedPrompt(
            name=name,
            version=prompt.version,
            label=label,
            text=text,
            route=prompt.matter.route,
            temperature=prompt.matter.temperature,
        )

    def get(self, name: str, version: int | None = None) -> Prompt:
        """A version as it is written; the one served outside of any session when none is named. Raises `NotFound`."""
        if version is None:
            return self._choose(name, "")[0]
        found = self._library.prompts.get(name, {}).get(version)
        if found is None:
            raise NotFound(f"There is no prompt {name!r:.60} in version {version}.")
        return found

    def list_versions(self) -> dict[str, list[int]]:
        """Every prompt's versions, as numbers in their order."""
        return {name: sorted(versions) for name, versions in sorted(self._library.prompts.items())}

    def variables(self, config: PromptsConfig | None = None) -> dict[str, frozenset[str]]:
        """Every prompt and the variables that the version needs which is served outside of any session, by the
        selections of `config` or those in force."""
        found: dict[str, frozenset[str]] = {}
        for name in self._library.prompts:
            with suppress(NotFound):  # a selection of a version that is not there
                found[name] = self._choose(name, "", config)[0].variables
        return found

    def selection(self, name: str, config: PromptsConfig | None = None) -> PromptSelection:
        """What is in force for a prompt: what operators chose, else what configuration says."""
        chosen = self._library.selections.get(name)
        return chosen or (config or self._config).selections.get(name, DEFAULT)

    @contextmanager
    def trying(self, candidate: Prompt) -> Iterator[None]:
        """Have everybody in this process get `candidate` for the prompt of its name, while the block runs. For
        evaluations, which have a process of their own."""
        self._candidates[candidate.name] = candidate
        try:
            yield
        finally:
            del self._candidates[candidate.name]

    def health(self) -> dict[str, Any]:
        return {"prompts": len(self._library.prompts), "degraded": dict(self._library.faults) or None}

    def _choose(self, name: str, sticky_key: str, config: PromptsConfig | None = None) -> tuple[Prompt, str]:
        versions = self._library.prompts.get(name)
        if not versions:
            known = ", ".join(sorted(self._library.prompts)) or "none"
            raise NotFound(f"There is no prompt {name!r:.60}; there are: {known}.")
        if name in self._candidates:
            return self._candidates[name], "candidate"
        if (pinned := varied_prompt(name)) is not None and pinned in versions:
            return versions[pinned], "rollout"
        version, label = choose_version(name, versions, self.selection(name, config), sticky_key)
        return versions[version], label

    async def _refresh_forever(self) -> None:
        while True:
            with suppress(TimeoutError):
                async with asyncio.timeout(self._config.refresh_seconds):
                    await self._wake.wait()
            self._wake.clear()
            try:
                await self.refresh()
            except Exception:
                logger.exception("prompts not refreshed")


def needed_by(config: PromptsConfig) -> set[tuple[str, int]]:
    """The versions that selections serve."""
    return {(name, version) for name, selection in config.selections.items() for version in selection.served()}


def require_selected(config: PromptsConfig, library: Library) -> None:
    """Raises `ConfigurationInvalid` naming every selection of a prompt or version that is not there; none while the
    volume is away, since nobody knows then."""
    faults = [] if library.is_away else selection_faults(config, library.prompts)
    if faults:
        raise ConfigurationInvalid(faults)


def selection_faults(config: PromptsConfig, prompts: Mapping[str, Collection[int]]) -> list[str]:
    faults = []
    for name, selection in config.selections.items():
        key = f"prompts.selections.{name}"
        if name not in prompts:
            faults.append(f"{key}: there is no prompt {name!r}{did_you_mean(name, prompts)}")
            continue
        for version in sorted(set(selection.served()) - set(prompts[name])):
            known = ", ".join(map(str, sorted(prompts[name])))
            faults.append(f"{key}: there is no version {version}; there are {known}")
    return faults
