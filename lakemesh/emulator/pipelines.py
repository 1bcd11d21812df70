"""The Pipelines API 2.0: pipelines are kept, and run on open-source Spark (`lakemesh.pipelines.local`)."""

import re
from collections.abc import Sequence
from typing import Any

from fastapi import APIRouter, Request

from lakemesh.emulator.errors import ApiError, not_found
from lakemesh.emulator.identity import body_of
from lakemesh.errors import LakemeshError, NotFound
from lakemesh.pipelines.local import ACTIVE, LocalPipelines

NAMED = re.compile(r"name LIKE '((?:[^']|'')*)'")
OF_UPDATE = re.compile(r"update_id = '([\w-]+)'")
PAGE = 250


def routes(pipelines: LocalPipelines) -> APIRouter:
    router = APIRouter(prefix="/api/2.0/pipelines")

    @router.post("")
    async def create(request: Request) -> dict[str, Any]:
        body = body_of(await request.body())
        made = carried_out(lambda: pipelines.create_from(body, creator=request.state.user))
        return {"pipeline_id": made}

    @router.get("")
    async def list_pipelines(request: Request) -> dict[str, Any]:
        asked = request.query_params.get("filter")
        named = NAMED.fullmatch(asked) if asked else None
        if asked and named is None:
            raise ApiError(400, f"The filter {asked!r:.200} is not understood; name LIKE '...' is.")
        found = [pipeline for pipeline in pipelines.kept.values() if named is None or like(named[1], pipeline["name"])]
        return {"statuses": [status(pipeline) for pipeline in found]}

    @router.get("/{pipeline_id}")
    async def get(pipeline_id: str) -> dict[str, Any]:
        pipeline = carried_out(lambda: pipelines.described(pipeline_id))
        return {**status(pipeline), "spec": pipeline["spec"], "last_modified": pipeline["last_modified"]}

    @router.put("/{pipeline_id}")
    async def edit(pipeline_id: str, request: Request) -> dict[str, Any]:
        body = body_of(await request.body())
        carried_out(lambda: pipelines.edit_to(pipeline_id, body))
        return {}

    @router.delete("/{pipeline_id}")
    async def delete(pipeline_id: str) -> dict[str, Any]:
        carried_out(lambda: pipelines.described(pipeline_id))
        await pipelines.delete(pipeline_id)
        return {}

    @router.post("/{pipeline_id}/updates")
    async def start(pipeline_id: str, request: Request) -> dict[str, Any]:
        body = body_of(await request.body())
        return {"update_id": carried_out(lambda: pipelines.start_from(pipeline_id, body))}

    @router.get("/{pipeline_id}/updates/{update_id}")
    async def get_update(pipeline_id: str, update_id: str) -> dict[str, Any]:
        return {"update": carried_out(lambda: pipelines.update_of(pipeline_id, update_id))}

    @router.get("/{pipeline_id}/updates")
    async def list_updates(pipeline_id: str) -> dict[str, Any]:
        return {"updates": carried_out(lambda: pipelines.described(pipeline_id))["updates"]}

    @router.get("/{pipeline_id}/events")
    async def events(pipeline_id: str, request: Request) -> dict[str, Any]:
        asked = request.query_params
        token = asked.get("page_token")
        of, start = token.rsplit(":", 1) if token else (asked.get("filter") or "", "0")
        update = OF_UPDATE.fullmatch(of) if of else None
        if of and update is None:
            raise ApiError(400, f"The filter {of!r:.200} is not understood; update_id = '...' is.")
        found = carried_out(lambda: pipelines.events_of(pipeline_id, update[1] if update else None))
        return page(found, int(start), int(asked.get("max_results") or PAGE), of)

    @router.post("/{pipeline_id}/stop")
    async def stop(pipeline_id: str) -> dict[str, Any]:
        carried_out(lambda: pipelines.stop_updates(pipeline_id))
        return {}

    return router


def page(events: Sequence[dict[str, Any]], start: int, size: int, of: str) -> dict[str, Any]:
    size = min(size, PAGE)
    after = start + size
    return {"events": events[start:after]} | ({"next_page_token": f"{of}:{after}"} if after < len(events) else {})


def status(pipeline: dict[str, Any]) -> dict[str, Any]:
    updates = pipeline["updates"]
    state = "RUNNING" if any(update["state"] in ACTIVE for update in updates) else "IDLE"
    latest = [
        {"update_id": update["update_id"], "state": update["state"], "creation_time": str(update["creation_time"])}
        for update in updates[:5]
    ]
    told = {name: pipeline[name] for name in ("pipeline_id", "name", "creator_user_name")}
    return {**told, "state": state, "latest_updates": latest, "run_as_user_name": pipeline["creator_user_name"]}


def like(pattern: str, name: str) -> bool:
    parts = re.split(r"(%|_)", pattern.replace("''", "'"))
    expression = "".join({"%": ".*", "_": "."}.get(part, re.escape(part)) for part in parts)
    return re.fullmatch(expression, name) is not None


def carried_out(call: Any) -> Any:
    """What the pipelines refuse, as the platform says it."""
    try:
        return call()
    except NotFound as error:
        raise not_found(error.detail) from None
    except LakemeshError as error:
        code = "RESOURCE_CONFLICT" if error.status == 409 else None
        raise ApiError(
            error.status if error.status in (400, 403, 409) else 400, error.detail, error_code=code
        ) from None
