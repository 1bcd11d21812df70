"""The Apps API: apps with their service principals, resources and deployments, which really run."""

import asyncio
import base64
import re
import secrets
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml
from fastapi import APIRouter, Request

from lakemesh.emulator.app_process import AppProcess, Launch
from lakemesh.emulator.errors import ApiError, not_found
from lakemesh.emulator.guard import checked_scopes
from lakemesh.emulator.identity import Grants, Tokens, body_of
from lakemesh.emulator.secrets import Secrets
from lakemesh.emulator.serving import EndpointCatalog
from lakemesh.emulator.state import State
from lakemesh.emulator.workspace_files import Tree

EXISTS = "RESOURCE_ALREADY_EXISTS"
NAME = re.compile(r"[a-z0-9](?:[a-z0-9-]{0,28}[a-z0-9])")


class Apps:
    """What was said about apps is kept in the state; their sources, logs and processes belong to `home`."""

    def __init__(
        self,
        home: Path,
        state: State,
        *,
        tree: Tree,
        tokens: Tokens,
        grants: Grants,
        secret_scopes: Secrets,
        endpoints: EndpointCatalog,
    ) -> None:
        self._home = home / "apps"
        self._state = state
        self._known = state.section("apps")
        self._tree = tree
        self._tokens = tokens
        self._grants = grants
        self._secrets = secret_scopes
        self._endpoints = endpoints
        self._processes: dict[str, AppProcess] = {}
        self._work: set[asyncio.Task[None]] = set()

    def app(self, name: str) -> dict[str, Any]:
        if name not in self._known:
            raise not_found(f"App {name!r}")
        found: dict[str, Any] = self._known[name]["app"]
        return found

    def all(self) -> list[dict[str, Any]]:
        return [entry["app"] for entry in self._known.values()]

    def deployments(self, name: str) -> dict[str, dict[str, Any]]:
        self.app(name)
        found: dict[str, dict[str, Any]] = self._known[name]["deployments"]
        return found

    def process(self, name: str) -> AppProcess:
        self.app(name)
        if name not in self._processes:
            folder = self._home / name
            folder.mkdir(parents=True, exist_ok=True)
            log = folder / "app.log"
            log.touch()
            self._processes[name] = AppProcess(log)
        return self._processes[name]

    def create(self, body: dict[str, Any], *, base_url: str, started: bool) -> dict[str, Any]:
        name = str(body.get("name"))
        if not NAME.fullmatch(name):
            raise ApiError(400, f"{name!r:.60} is no name for an app: 2 to 30 of a-z, 0-9 and hyphens.")
        if name in self._known:
            # Databricks CLI, libs/testserver/apps.go
            raise ApiError(409, f"An app with the same name already exists: {name}", error_code=EXISTS)
        self._check(body)
        principal = f"{secrets.token_hex(4)}-app-{name}"
        app = {
            **body,
            "id": secrets.token_hex(8),
            "service_principal_client_id": principal,
            "service_principal_name": f"app-{name}",
            "url": f"{base_url.rstrip('/')}/emulator/apps/{name}",
        }
        self._known[name] = {"app": app, "deployments": {}, "secret": self._tokens.add_principal(principal)}
        self._grant_resources(app, app.get("resources") or [])
        set_state(app, "ACTIVE" if started else "STOPPED", "UNAVAILABLE")
        return app

    def change(self, name: str, body: Mapping[str, Any]) -> dict[str, Any]:
        app = self.app(name)
        self._check(body)
        app.update({key: value for key, value in body.items() if key != "name"})
        self._grant_resources(app, body.get("resources") or [])
        return app

    async def delete(self, name: str) -> dict[str, Any]:
        app = self.app(name)
        await self.process(name).stop()
        self._tokens.remove_principal(app["service_principal_client_id"])
        shutil.rmtree(self._home / name, ignore_errors=True)
        del self._known[name], self._processes[name]
        return app

    async def start(self, name: str) -> dict[str, Any]:
        app = self.app(name)
        if app.get("active_deployment"):
            self._begin(self._run(name, app["active_deployment"]))
        return set_state(app, "ACTIVE", "DEPLOYING" if app.get("active_deployment") else "UNAVAILABLE")

    async def stop(self, name: str) -> dict[str, Any]:
        app = self.app(name)
        await self.process(name).stop()
        return set_state(app, "STOPPED", "UNAVAILABLE")

    def deploy(self, name: str, body: dict[str, Any]) -> dict[str, Any]:
        app = self.app(name)
        # No public source for these two was found: the CLI's test server deploys whatever state an app is in.
        if app["compute_status"]["state"] != "ACTIVE":
            raise ApiError(400, f"App {name!r} is not running.", error_code="INVALID_STATE")
        if app.get("pending_deployment"):
            raise ApiError(409, f"App {name!r} is being deployed.", error_code="ABORTED")
        source = body.get("source_code_path") or app.get("default_source_code_path")
        if not source or not self._tree.local(str(source)).is_dir():
            raise ApiError(400, f"There is no source code at {source!r}.")
        deployment_id = secrets.token_hex(16)
        status = {"state": "IN_PROGRESS", "message": "The app is starting."}
        deployment = {**body, "deployment_id": deployment_id, "source_code_path": source, "status": status}
        self.deployments(name)[deployment_id] = app["pending_deployment"] = deployment
        app["app_status"] = {"state": "DEPLOYING", "message": ""}
        self._begin(self._deploy(name, deployment))
        return deployment

    async def resume(self) -> None:
        """Start again what ran when the emulator ended; a deployment it interrupted has failed."""
        for name, entry in self._known.items():
            app = entry["app"]
            if app.pop("pending_deployment", None):
                for deployment in entry["deployments"].values():
                    if deployment["status"]["state"] == "IN_PROGRESS":
                        deployment["status"] = {"state": "FAILED", "message": "The emulator ended."}
            if app["compute_status"]["state"] == "ACTIVE" and app.get("active_deployment"):
                self._begin(self._run(name, app["active_deployment"]))

    async def close(self) -> None:
        for task in list(self._work):
            task.cancel()
        await asyncio.gather(*(process.stop() for process in self._processes.values()))

    def _begin(self, work: Any) -> None:
        task = asyncio.ensure_future(work)
        self._work.add(task)
        task.add_done_callback(self._work.discard)

    async def _deploy(self, name: str, deployment: dict[str, Any]) -> None:
        app = self.app(name)
        source = self._home / name / deployment["deployment_id"]
        await asyncio.to_thread(shutil.copytree, self._tree.local(deployment["source_code_path"]), source)
        problem = await self._run(name, deployment)
        app.pop("pending_deployment", None)
        deployment["status"] = {"state": "FAILED" if problem else "SUCCEEDED", "message": problem or "App started."}
        if problem is None:
            app["active_deployment"] = deployment
        elif app.get("active_deployment"):
            await self._run(name, app["active_deployment"])  # the former one keeps serving
        self._state.save()

    async def _run(self, name: str, deployment: dict[str, Any]) -> str | None:
        """Run it instead of what runs now; what went wrong."""
        app = self.app(name)
        try:
            launch = self._launch(name, deployment)
        except (ApiError, yaml.YAMLError, KeyError, TypeError) as error:
            problem: str | None = f"The app cannot be started: {getattr(error, 'message', None) or error!r}"
        else:
            problem = await self.process(name).start(launch)
        set_state(app, "ACTIVE", "CRASHED" if problem else "RUNNING", problem or "")
        self._state.save()
        return problem

    def _launch(self, name: str, deployment: dict[str, Any]) -> Launch:
        source = self._home / name / deployment["deployment_id"]
        files = [source / "app.yaml", source / "app.yml"]
        config = next((yaml.safe_load(file.read_text()) for file in files if file.is_file()), None) or {}
        command = deployment.get("command") or config.get("command") or ["python", "app.py"]
        entries = [*(config.get("env") or []), *(deployment.get("env_vars") or [])]
        values = {str(entry["name"]): self._value(name, entry) for entry in entries}
        return Launch(source=source, command=command, environment=values | self._platform_environment(name))

    def _platform_environment(self, name: str) -> dict[str, str]:
        """What the platform sets (Databricks Apps documentation, "app environment")."""
        app = self.app(name)
        return {
            "DATABRICKS_APP_NAME": name,
            "DATABRICKS_WORKSPACE_ID": "1",
            "DATABRICKS_HOST": app["url"].partition("/emulator/")[0],
            "DATABRICKS_CLIENT_ID": app["service_principal_client_id"],
            "DATABRICKS_CLIENT_SECRET": self._known[name]["secret"],
        }

    def _value(self, name: str, entry: Mapping[str, Any]) -> str:
        """A variable's value; one with `valueFrom` is what identifies the app's resource of that name."""
        wanted = entry.get("valueFrom") or entry.get("value_from")
        if not wanted:
            return str(entry["value"])
        resource = next((item for item in self.app(name).get("resources") or [] if item["name"] == wanted), None)
        if resource is None:
            raise ApiError(400, f"the app has no resource named {wanted!r}.")
        if "secret" in resource:
            scope, key = resource["secret"]["scope"], resource["secret"]["key"]
            value = self._secrets.scopes.get(scope, {}).get("values", {}).get(key)
            if value is None:
                raise ApiError(400, f"the scope {scope!r} has no secret {key!r}.")
            return base64.b64decode(value).decode()
        return identifier(resource)

    def _check(self, body: Mapping[str, Any]) -> None:
        """What an app may use has to be there, and what it asks its users for has to be on offer."""
        checked_scopes(body.get("user_api_scopes") or ())
        if "user_api_scopes" in body and isinstance(body, dict):
            body["effective_user_api_scopes"] = [*body["user_api_scopes"], "iam.current-user:read"]
        for resource in body.get("resources") or ():
            if endpoint := resource.get("serving_endpoint"):
                self._endpoints.get(str(endpoint.get("name")))
            if (secret := resource.get("secret")) and secret.get("scope") not in self._secrets.scopes:
                raise not_found(f"Scope {secret.get('scope')!r}")

    def _grant_resources(self, app: Mapping[str, Any], resources: list[dict[str, Any]]) -> None:
        """The app's principal gets what its resources say, and what using a securable takes."""
        principal = app["service_principal_client_id"]
        for resource in resources:
            if securable := resource.get("uc_securable"):
                catalog, schema, _ = securable["securable_full_name"].split(".")
                self._grants.change(securable["securable_full_name"], principal, [securable["permission"]], [])
                self._grants.change(catalog, principal, ["USE_CATALOG"], [])
                self._grants.change(f"{catalog}.{schema}", principal, ["USE_SCHEMA"], [])
            if secret := resource.get("secret"):
                scope = self._secrets.scopes.get(secret["scope"])
                if scope is not None:
                    scope["acls"][principal] = secret["permission"]


def identifier(resource: Mapping[str, Any]) -> str:
    """What `valueFrom` yields for a resource."""
    if securable := resource.get("uc_securable"):
        name = str(securable["securable_full_name"])
        return f"/Volumes/{name.replace('.', '/')}" if securable["securable_type"] == "VOLUME" else name
    for kind, key in (("sql_warehouse", "id"), ("serving_endpoint", "name"), ("job", "id"), ("app", "name")):
        if kind in resource:
            return str(resource[kind][key])
    raise ApiError(501, f"the emulator knows no value for the resource {resource['name']!r}.")


def set_state(app: dict[str, Any], compute: str, state: str, message: str = "") -> dict[str, Any]:
    app["compute_status"] = {"state": compute, "message": ""}
    app["app_status"] = {"state": state, "message": message}
    return app


def routes(apps: Apps) -> APIRouter:
    router = APIRouter(prefix="/api/2.0/apps")

    @router.post("")
    async def create(request: Request) -> dict[str, Any]:
        body = body_of(await request.body())
        started = request.query_params.get("no_compute", "").lower() != "true"
        return apps.create(body, base_url=str(request.base_url), started=started)

    @router.get("")
    async def list_apps() -> dict[str, Any]:
        return {"apps": apps.all()}

    @router.get("/{name}")
    async def get(name: str) -> dict[str, Any]:
        return apps.app(name)

    @router.patch("/{name}")
    async def update(name: str, request: Request) -> dict[str, Any]:
        return apps.change(name, body_of(await request.body()))

    @router.delete("/{name}")
    async def delete(name: str) -> dict[str, Any]:
        return await apps.delete(name)

    @router.post("/{name}/start")
    async def start(name: str) -> dict[str, Any]:
        return await apps.start(name)

    @router.post("/{name}/stop")
    async def stop(name: str) -> dict[str, Any]:
        return await apps.stop(name)

    @router.post("/{name}/deployments")
    async def deploy(name: str, request: Request) -> dict[str, Any]:
        return apps.deploy(name, body_of(await request.body()))

    @router.get("/{name}/deployments")
    async def list_deployments(name: str) -> dict[str, Any]:
        return {"app_deployments": list(apps.deployments(name).values())}

    @router.get("/{name}/deployments/{deployment_id}")
    async def get_deployment(name: str, deployment_id: str) -> dict[str, Any]:
        if deployment_id not in apps.deployments(name):
            raise not_found(f"Deployment {deployment_id!r}")
        # Values are never given back (Databricks CLI, libs/testserver/apps.go, AppsGetDeployment).
        found = apps.deployments(name)[deployment_id]
        masked = [{"name": entry.get("name")} for entry in found.get("env_vars") or ()]
        return {**found, "env_vars": masked} if masked else found

    return router
