"""AI/BI dashboards (the Lakeview API) and alerts: kept with what they ask; no query of theirs is run."""

import json
import secrets
from datetime import UTC, datetime
from typing import Any

from fastapi import APIRouter, Request

from lakemesh.emulator.errors import ApiError, not_found
from lakemesh.emulator.identity import body_of

Kept = dict[str, dict[str, Any]]


def routes(dashboards: Kept, alerts: Kept) -> APIRouter:
    router = APIRouter()
    router.include_router(dashboard_routes(dashboards), prefix="/api/2.0/lakeview/dashboards")
    router.include_router(alert_routes(alerts), prefix="/api/2.0/alerts")
    return router


def dashboard_routes(kept: Kept) -> APIRouter:
    router = APIRouter()

    @router.post("")
    async def create(request: Request) -> dict[str, Any]:
        body = body_of(await request.body())
        path = f"{body.get('parent_path') or '/Workspace'}/{body.get('display_name')}.lvdash.json"
        if any(known["path"] == path for known in kept.values()):
            raise ApiError(400, f"{path!r} already exists.", error_code="RESOURCE_ALREADY_EXISTS")
        dashboard_id = secrets.token_hex(16)
        kept[dashboard_id] = {"dashboard_id": dashboard_id, "path": path, "lifecycle_state": "ACTIVE"}
        return changed(kept[dashboard_id], body, request)

    @router.get("")
    async def list_dashboards() -> dict[str, Any]:
        shown = ("dashboard_id", "display_name", "warehouse_id", "lifecycle_state", "create_time", "update_time")
        return {"dashboards": [{key: known[key] for key in shown if key in known} for known in kept.values()]}

    @router.get("/{dashboard_id}")
    async def get(dashboard_id: str) -> dict[str, Any]:
        return found(kept, dashboard_id, "Dashboard")

    @router.patch("/{dashboard_id}")
    async def update(dashboard_id: str, request: Request) -> dict[str, Any]:
        return changed(found(kept, dashboard_id, "Dashboard"), body_of(await request.body()), request)

    @router.delete("/{dashboard_id}")
    async def trash(dashboard_id: str) -> dict[str, Any]:
        found(kept, dashboard_id, "Dashboard")
        del kept[dashboard_id]
        return {}

    @router.post("/{dashboard_id}/published")
    async def publish(dashboard_id: str, request: Request) -> dict[str, Any]:
        body = body_of(await request.body())
        dashboard = found(kept, dashboard_id, "Dashboard")
        dashboard["published"] = {
            "display_name": dashboard["display_name"],
            "embed_credentials": bool(body.get("embed_credentials")),
            "warehouse_id": body.get("warehouse_id") or dashboard.get("warehouse_id"),
            "revision_create_time": dashboard["update_time"],
        }
        return dict(dashboard["published"])

    @router.get("/{dashboard_id}/published")
    async def get_published(dashboard_id: str) -> dict[str, Any]:
        published = found(kept, dashboard_id, "Dashboard").get("published")
        if published is None:
            raise not_found(f"A published version of {dashboard_id!r}")
        return dict(published)

    return router


def changed(dashboard: dict[str, Any], body: dict[str, Any], request: Request) -> dict[str, Any]:
    """The dashboard with what was sent; catalog and schema of its datasets come as query parameters."""
    dashboard.update({key: value for key, value in body.items() if key != "dashboard_id"})
    try:
        content = json.loads(dashboard.get("serialized_dashboard") or "{}")
    except ValueError:
        raise ApiError(400, "serialized_dashboard is not JSON.") from None
    defaults = {"catalog": "dataset_catalog", "schema": "dataset_schema"}
    given = {key: request.query_params[name] for key, name in defaults.items() if name in request.query_params}
    for dataset in content.get("datasets") or ():
        dataset.update(given)
    dashboard["serialized_dashboard"] = json.dumps(content)
    dashboard["update_time"] = datetime.now(UTC).isoformat()
    return dashboard


def alert_routes(kept: Kept) -> APIRouter:
    router = APIRouter()

    @router.post("")
    async def create(request: Request) -> dict[str, Any]:
        alert_id = secrets.token_hex(16)
        kept[alert_id] = {**body_of(await request.body()), "id": alert_id, "lifecycle_state": "ACTIVE"}
        return kept[alert_id]

    @router.get("")
    async def list_alerts() -> dict[str, Any]:
        return {"alerts": list(kept.values())}

    @router.get("/{alert_id}")
    async def get(alert_id: str) -> dict[str, Any]:
        return found(kept, alert_id, "Alert")

    @router.patch("/{alert_id}")
    async def update(alert_id: str, request: Request) -> dict[str, Any]:
        body, mask = body_of(await request.body()), request.query_params.get("update_mask", "").split(",")
        found(kept, alert_id, "Alert").update({key: body[key] for key in mask if key in body})
        return kept[alert_id]

    @router.delete("/{alert_id}")
    async def trash(alert_id: str) -> dict[str, Any]:
        found(kept, alert_id, "Alert")
        del kept[alert_id]
        return {}

    return router


def found(kept: Kept, key: str, kind: str) -> dict[str, Any]:
    if key not in kept:
        raise not_found(f"{kind} {key!r}")
    return kept[key]
