"""Declarative pipelines of the workspace: made, changed, started, and followed by their events."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol

UpdateState = Literal["waiting", "running", "completed", "failed", "canceled"]
ENDED: frozenset[UpdateState] = frozenset({"completed", "failed", "canceled"})


@dataclass(frozen=True, slots=True, kw_only=True)
class PipelineSettings:
    """What a pipeline is made of. `include` are globs of source files in the workspace."""

    name: str
    catalog: str
    schema: str
    root_path: str
    include: tuple[str, ...]
    serverless: bool = True
    continuous: bool = False
    development: bool = True
    configuration: Mapping[str, str] = field(default_factory=dict)
    tags: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Update:
    """One run of a pipeline; `created_ms` is Unix time."""

    update_id: str
    state: UpdateState
    validate_only: bool = False
    full_refresh: bool = False
    created_ms: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class PipelineInfo:
    """`last_modified_ms` guards an edit against somebody else's; `updates` are the latest, newest first."""

    pipeline_id: str
    settings: PipelineSettings
    last_modified_ms: int
    updates: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class PipelineEvent:
    """An entry of the event log. `error_class` is the engine's, of the first exception; `expectations` are those of a
    flow's progress: `name`, `dataset`, `passed_records`, `failed_records`."""

    event_id: str
    event_type: str
    level: str
    message: str
    timestamp: str
    dataset: str | None = None
    error_class: str | None = None
    error_message: str | None = None
    expectations: Sequence[Mapping[str, Any]] = ()


class Pipelines(Protocol):
    """An unknown pipeline or update raises `NotFound`; what the platform refuses raises `InvalidRequest`."""

    async def find(self, name: str) -> PipelineInfo | None:
        """The pipeline of exactly this name. Raises `Conflict` when there are several."""
        ...

    async def get(self, pipeline_id: str) -> PipelineInfo: ...

    async def create(self, settings: PipelineSettings) -> str:
        """The new pipeline's id. Raises `Conflict` when the name is taken."""
        ...

    async def edit(self, pipeline_id: str, settings: PipelineSettings, *, last_modified_ms: int) -> None:
        """Raises `Conflict` when the pipeline was changed after `last_modified_ms`."""
        ...

    async def start(
        self, pipeline_id: str, *, validate_only: bool = False, full_refresh: bool = False, only: Sequence[str] = ()
    ) -> str:
        """The update's id. `only` refreshes these datasets alone. Raises `Conflict` while another update runs."""
        ...

    async def update(self, pipeline_id: str, update_id: str) -> Update: ...

    async def events(self, pipeline_id: str, update_id: str) -> Sequence[PipelineEvent]:
        """Those of one update, oldest first; at most 1,000."""
        ...

    async def stop(self, pipeline_id: str) -> None: ...


STATES: Mapping[str, UpdateState] = {
    "COMPLETED": "completed",
    "FAILED": "failed",
    "CANCELED": "canceled",
    "CREATED": "waiting",
    "QUEUED": "waiting",
    "WAITING_FOR_RESOURCES": "waiting",
}
"""Every other state is one of running."""


def state_of(name: str) -> UpdateState:
    """From the Pipelines API's word."""
    return STATES.get(name, "running")


def settings_of(spec: Mapping[str, Any]) -> PipelineSettings:
    """From the Pipelines API's JSON."""
    globs = [library.get("glob", {}).get("include") for library in spec.get("libraries") or ()]
    return PipelineSettings(
        name=spec.get("name") or "",
        catalog=spec.get("catalog") or "",
        schema=spec.get("schema") or spec.get("target") or "",
        root_path=spec.get("root_path") or "",
        include=tuple(filter(None, globs)),
        serverless=bool(spec.get("serverless")),
        continuous=bool(spec.get("continuous")),
        development=bool(spec.get("development")),
        configuration=spec.get("configuration") or {},
        tags=spec.get("tags") or {},
    )


def event_of(event: Mapping[str, Any]) -> PipelineEvent:
    """From the Pipelines API's JSON."""
    exceptions = (event.get("error") or {}).get("exceptions") or [{}]
    progress = (event.get("details") or {}).get("flow_progress") or {}
    quality = progress.get("data_quality") or {}
    text = str(exceptions[0].get("message") or "")
    named = exceptions[0].get("error_class") or (text[1 : text.index("]")] if text[:1] == "[" and "]" in text else None)
    return PipelineEvent(
        event_id=str(event.get("id") or ""),
        event_type=str(event.get("event_type") or ""),
        level=str(event.get("level") or ""),
        message=str(event.get("message") or ""),
        timestamp=str(event.get("timestamp") or ""),
        dataset=(event.get("origin") or {}).get("dataset_name"),
        error_class=named or exceptions[0].get("class_name"),
        error_message=text or None,
        expectations=quality.get("expectations") or (),
    )
