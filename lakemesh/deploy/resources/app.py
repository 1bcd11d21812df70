"""The app: what it may use, its source in the workspace, and the deployment that runs it."""

import base64
from collections.abc import Mapping
from typing import Any

from lakemesh.deploy.app_log import recent_log
from lakemesh.deploy.resources.base import Body, Resource, Target, absolute
from lakemesh.deploy.source import Source
from lakemesh.errors import NotFound, Unavailable

API = "/api/2.0/apps"
READY_SECONDS = 1_200.0
NOT_SENT = ("config", "source_code_path", "lifecycle", "permissions", "git_source")
MARKER = ".lakemesh-source"
LOG_LINES = 20


class App(Resource):
    @property
    def desired(self) -> Body:
        return {key: value for key, value in self.body.items() if key not in NOT_SENT}

    @property
    def path(self) -> str:
        return f"{API}/{self.name}"

    def read(self) -> Body | None:
        return self.target.find(self.path)

    def create(self) -> None:
        self.target.do("POST", API, self.desired)

    def update(self, wanted: Body) -> None:
        self.target.do("PATCH", self.path, {"name": self.name, **wanted})

    def delete(self) -> None:
        self.target.do("DELETE", self.path)

        def gone() -> str | None:
            found = self.target.find(self.path)
            return None if found is None else str(found.get("compute_status", {}).get("state", "DELETING"))

        self.target.wait(f"app {self.name}", gone, timeout_seconds=READY_SECONDS)

    def settle(self) -> None:
        asked = False

        def state() -> str | None:
            nonlocal asked
            found: str = self.target.do("GET", self.path).get("compute_status", {}).get("state", "STARTING")
            if found == "STOPPED" and not asked:
                asked = True
                self.target.do("POST", f"{self.path}/start", {})
            if found == "ERROR":
                raise Unavailable(f"The compute of the app {self.name} failed; start it again in the workspace.")
            return None if found == "ACTIVE" else found

        self.target.wait(f"app {self.name}", state, timeout_seconds=READY_SECONDS)


class AppSource(Resource):
    """The app's files, in a folder named after their content: what is there is never changed, a new source gets a new
    folder, and the deployment says which one runs."""

    def __init__(self, address: str, source: Source, target: Target) -> None:
        super().__init__(f"{address}.source", {"name": folder_of(source, target)}, target)
        self._source = source

    @property
    def desired(self) -> Body:
        return {"path": self.name}

    def read(self) -> Body | None:
        try:
            self.target.do("GET", "/api/2.0/workspace/get-status", query={"path": f"{self.name}/{MARKER}"})
        except NotFound:
            return None
        return {"path": self.name}

    def create(self) -> None:
        files = self._source.files()
        self.target.say(f"uploading {len(files)} files to {self.name}")
        for folder in sorted({f"{self.name}/{path}".rpartition("/")[0] for path in files}):
            self.target.do("POST", "/api/2.0/workspace/mkdirs", {"path": folder})
        for path, content in files.items():
            upload(self.target, f"{self.name}/{path}", content)
        upload(self.target, f"{self.name}/{MARKER}", b"")

    def delete(self) -> None:
        self.target.do("POST", "/api/2.0/workspace/delete", {"path": self.name, "recursive": True})


class AppDeployment(Resource):
    """Which source the app runs. A failed deployment leaves the former one running."""

    def __init__(self, address: str, declared: Body, source: Source, target: Target) -> None:
        super().__init__(f"{address}.deployment", declared, target)
        self._folder = folder_of(source, target)

    @property
    def name(self) -> str:
        return f"deployment of {super().name}"

    @property
    def path(self) -> str:
        return f"{API}/{self.body['name']}"

    @property
    def desired(self) -> Body:
        return {"source_code_path": self._folder}

    def read(self) -> Body | None:
        """A deployment that is on its way, of a run that was killed perhaps, is waited for."""
        if self.target.find(self.path) is None:
            return None
        self._finish_pending()
        active = self._app().get("active_deployment")
        return None if not active else {"source_code_path": absolute(str(active.get("source_code_path")))}

    def create(self) -> None:
        self.update(self.desired)

    def update(self, wanted: Body) -> None:
        sent = {"source_code_path": wanted["source_code_path"], "mode": "SNAPSHOT"}
        made = self.target.do("POST", f"{self.path}/deployments", sent)
        status: Mapping[str, Any] = {}

        def state() -> str | None:
            nonlocal status
            found = self.target.do("GET", f"{self.path}/deployments/{made['deployment_id']}")
            status = found.get("status") or {}
            return "IN_PROGRESS" if status.get("state") == "IN_PROGRESS" else None

        self.target.wait(f"app {self.body['name']}", state, timeout_seconds=READY_SECONDS)
        if status.get("state") != "SUCCEEDED":
            self._say_log()
            raise Unavailable(f"The app did not start: {status.get('message')}")

    def delete(self) -> None:
        """It goes with its app."""

    def settle(self) -> None:
        """Sources that do not run any more are removed, also those that a killed run has left."""
        parent = self._folder.rpartition("/")[0]
        for item in self.target.do("GET", "/api/2.0/workspace/list", query={"path": parent}).get("objects") or ():
            if absolute(item["path"]) != self._folder:
                self.target.do("POST", "/api/2.0/workspace/delete", {"path": item["path"], "recursive": True})

    def _say_log(self) -> None:
        """The end of the app's log, as long as the app is there."""
        headers = self.target.client.config.authenticate()
        for entry in recent_log(str(self._app().get("url")), headers, lines=LOG_LINES):
            self.target.say(f"  {entry.message}")

    def _finish_pending(self) -> None:
        def state() -> str | None:
            return "IN_PROGRESS" if self._app().get("pending_deployment") else None

        self.target.wait(f"app {self.body['name']}", state, timeout_seconds=READY_SECONDS)

    def _app(self) -> dict[str, Any]:
        found: dict[str, Any] = self.target.do("GET", self.path)
        return found


def folder_of(source: Source, target: Target) -> str:
    return f"{absolute(target.bundle.root_path)}/source/{source.digest[:16]}"


def upload(target: Target, path: str, content: bytes) -> None:
    sent = {"path": path, "content": base64.b64encode(content).decode(), "format": "AUTO", "overwrite": True}
    target.do("POST", "/api/2.0/workspace/import", sent)
