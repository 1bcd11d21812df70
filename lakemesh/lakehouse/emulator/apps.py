"""The Apps API: apps are kept, with their deployments and states; none is run."""

import secrets
from typing import Any

from fastapi import APIRouter, Request

from lakemesh.lakehouse.emulator.errors import ApiError, not_found
from lakemesh.lakehouse.emulator.identity import body_of


def routes() -> APIRouter:
    router = APIRouter(prefix="/api/2.0/apps")
    apps: dict[str, dict[str, Any]] = {}
    deployments: dict[str, dict[str, dict[str, Any]]] = {}

    def app_of(name: str) -> dict[str, Any]:
        if name not in apps:
            raise not_found(f"App {name!r}")
        return apps[name]

    def set_state(app: dict[str, Any], compute: str, state: str) -> dict[str, Any]:
        app["compute_status"] = {"state": compute, "message": ""}
        app["app_status"] = {"state": state, "message": ""}
        return app

    @router.post("")
    async def create(request: Request) -> dict[str, Any]:
        body = body_of(await request.body())
        name = str(body.get("name"))
        if name in apps:
            raise ApiError(409, f"An app named {name!r} already exists.")
        identifiers = {"id": secrets.token_hex(8), "service_principal_client_id": f"app-{name}"}
        apps[name] = {**body, **identifiers, "url": f"{str(request.base_url).rstrip('/')}/emulator/apps/{name}"}
        deployments[name] = {}
        started = request.query_params.get("no_compute", "").lower() != "true"
        return set_state(apps[name], "ACTIVE" if started else "STOPPED", "UNAVAILABLE")

    @router.get("")
    async def list_apps() -> dict[str, Any]:
        return {"apps": list(apps.values())}

    @router.get("/{name}")
    async def get(name: str) -> dict[str, Any]:
        return app_of(name)

    @router.patch("/{name}")
    async def update(name: str, request: Request) -> dict[str, Any]:
        app_of(name).update(body_of(await request.body()))
        return apps[name]

    @router.delete("/{name}")
    async def delete(name: str) -> dict[str, Any]:
        app_of(name)
        deployments.pop(name)
        return apps.pop(name)

    @router.post("/{name}/start")
    async def start(name: str) -> dict[str, Any]:
        return set_state(app_of(name), "ACTIVE", "RUNNING" if deployments[name] else "UNAVAILABLE")

    @router.post("/{name}/stop")
    async def stop(name: str) -> dict[str, Any]:
        return set_state(app_of(name), "STOPPED", "UNAVAILABLE")

    @router.post("/{name}/deployments")
    async def deploy(name: str, request: Request) -> dict[str, Any]:
        app = app_of(name)
        if app["compute_status"]["state"] != "ACTIVE":
            raise ApiError(400, f"App {name!r} is not running.", error_code="INVALID_STATE")
        deployment_id = secrets.token_hex(16)
        status = {"state": "SUCCEEDED", "message": "The emulator runs no apps."}
        deployment = {**body_of(await request.body()), "deployment_id": deployment_id, "status": status}
        deployments[name][deployment_id] = app["active_deployment"] = deployment
        set_state(app, "ACTIVE", "RUNNING")
        return deployment

    @router.get("/{name}/deployments")
    async def list_deployments(name: str) -> dict[str, Any]:
        app_of(name)
        return {"app_deployments": list(deployments[name].values())}

    @router.get("/{name}/deployments/{deployment_id}")
    async def get_deployment(name: str, deployment_id: str) -> dict[str, Any]:
        app_of(name)
        if deployment_id not in deployments[name]:
            raise not_found(f"Deployment {deployment_id!r}")
        return deployments[name][deployment_id]

    return router
