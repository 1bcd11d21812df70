"""Pipelines through the Pipelines API 2.0."""

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, TypeVar

from lakemesh.errors import Conflict
from lakemesh.lakehouse.databricks.calls import SdkCalls
from lakemesh.lakehouse.pipelines import (
    PipelineEvent,
    PipelineInfo,
    PipelineSettings,
    Update,
    event_of,
    settings_of,
    state_of,
)
from lakemesh.scope import current_deadline

if TYPE_CHECKING:
    from databricks.sdk import WorkspaceClient

T = TypeVar("T")

TIMEOUT_SECONDS = 30.0
MAX_EVENTS = 1_000
PAGE_EVENTS = 250


class WorkspacePipelines:
    def __init__(self, client: "WorkspaceClient", calls: SdkCalls) -> None:
        self._client = client
        self._api = client.pipelines
        self._calls = calls

    async def _run(self, call: Callable[[], T], *, repeatable: bool = False) -> T:
        return await self._calls.run(call, deadline=current_deadline(TIMEOUT_SECONDS), repeatable=repeatable)

    async def find(self, name: str) -> PipelineInfo | None:
        pattern = name.replace("'", "''")

        def named() -> list[str]:
            listed = self._api.list_pipelines(filter=f"name LIKE '{pattern}'", max_results=25)
            return [str(state.pipeline_id) for state in listed if state.name == name]

        found = await self._run(named, repeatable=True)
        if len(found) > 1:
            raise Conflict(f"{len(found)} pipelines are named {name!r}; rename all but one.")
        return await self.get(found[0]) if found else None

    async def get(self, pipeline_id: str) -> PipelineInfo:
        found = await self._run(lambda: self._api.get(pipeline_id), repeatable=True)
        updates = tuple(str(update.update_id) for update in found.latest_updates or ())
        return PipelineInfo(
            pipeline_id=pipeline_id,
            settings=settings_of(found.spec.as_dict() if found.spec else {}),
            last_modified_ms=int(found.last_modified or 0),
            updates=updates,
        )

    async def create(self, settings: PipelineSettings) -> str:
        made = await self._run(lambda: self._api.create(allow_duplicate_names=False, **arguments_of(settings)))
        return str(made.pipeline_id)

    async def edit(self, pipeline_id: str, settings: PipelineSettings, *, last_modified_ms: int) -> None:
        await self._run(
            lambda: self._api.update(pipeline_id, expected_last_modified=last_modified_ms, **arguments_of(settings))
        )

    async def start(
        self, pipeline_id: str, *, validate_only: bool = False, full_refresh: bool = False, only: Sequence[str] = ()
    ) -> str:
        selection: dict[str, Any] = {"full_refresh": full_refresh} if not only else {}
        if only:
            selection["full_refresh_selection" if full_refresh else "refresh_selection"] = list(only)
        started = await self._run(
            lambda: self._api.start_update(pipeline_id, validate_only=validate_only or None, **selection)
        )
        return str(started.update_id)

    async def update(self, pipeline_id: str, update_id: str) -> Update:
        answer = await self._run(lambda: self._api.get_update(pipeline_id, update_id), repeatable=True)
        found = answer.update
        state = found.state.value if found and found.state else ""
        return Update(
            update_id=update_id,
            state=state_of(state),
            validate_only=bool(found and found.validate_only),
            full_refresh=bool(found and found.full_refresh),
            created_ms=int(found.creation_time or 0) if found else 0,
        )

    async def events(self, pipeline_id: str, update_id: str) -> Sequence[PipelineEvent]:
        """By REST: the SDK's event leaves out `details`, which has the expectations' results."""

        def pages() -> list[dict[str, Any]]:
            found: list[dict[str, Any]] = []
            query: dict[str, Any] = {"filter": f"update_id = '{update_id}'", "max_results": PAGE_EVENTS,
                                     "order_by": "timestamp asc"}  # fmt: skip
            while len(found) < MAX_EVENTS:
                page = self._client.api_client.do("GET", f"/api/2.0/pipelines/{pipeline_id}/events", query=query)
                assert isinstance(page, dict)
                found += page.get("events") or []
                if not page.get("next_page_token"):
                    break
                query = {"page_token": page["next_page_token"], "max_results": PAGE_EVENTS}
            return found[:MAX_EVENTS]

        return [event_of(event) for event in await self._run(pages, repeatable=True)]

    async def stop(self, pipeline_id: str) -> None:
        await self._run(lambda: self._api.stop(pipeline_id))


def arguments_of(settings: PipelineSettings) -> dict[str, Any]:
    from databricks.sdk.service.pipelines import PathPattern, PipelineLibrary

    given: dict[str, Any] = {
        "name": settings.name,
        "catalog": settings.catalog,
        "schema": settings.schema,
        "root_path": settings.root_path,
        "libraries": [PipelineLibrary(glob=PathPattern(include=include)) for include in settings.include],
        "serverless": settings.serverless,
        "continuous": settings.continuous,
        "development": settings.development,
        "configuration": dict(settings.configuration),
    }
    if settings.tags:
        given["tags"] = dict(settings.tags)
    if not settings.serverless:
        given["edition"] = "ADVANCED"
    return given
