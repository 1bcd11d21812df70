"""The app: what it may use, its source in the workspace, and the deployment that runs it."""

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

from lakemesh.deploy.app_log import recent_log
from lakemesh.deploy.resources.base import Body, Difference, Resource, Target, absolute
from lakemesh.deploy.source import Source
from lakemesh.deploy.sources import Sources
from lakemesh.errors import Unavailable

API = "/api/2.0/apps"
READY_SECONDS = 1_200.0
SCOPES_SECONDS = 60.0
START_SECONDS = 180.0
NOT_SENT = ("config", "source_code_path", "lifecycle", "permissions", "git_source")
LOG_LINES = 20
MAX_LISTED = 20


class App(Resource):
    @property
    def desired(self) -> Body:
        body = {key: value for key, value in self.body.items() if key not in NOT_SENT}
        if "user_api_scopes" in body:
            body["user_api_scopes"] = sorted(body["user_api_scopes"])
        return body

    @property
    def path(self) -> str:
        return f"{API}/{self.name}"

    def read(self) -> Body | None:
        found = self.target.find(self.path)
        if found is not None and found.get("user_api_scopes"):
            found["user_api_scopes"] = sorted(found["user_api_scopes"])
        return found

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
        self._wait_for_scopes()

    def _wait_for_scopes(self) -> None:
        """What users are asked to consent to follows an update with a delay (databricks-ai-bridge pull request 619)."""
        wanted = set(self.desired.get("user_api_scopes") or ())

        def missing() -> str | None:
            return (
                None if wanted <= set(self.target.do("GET", self.path).get("effective_user_api_scopes") or ()) else ""
            )

        if wanted:
            self.target.wait(f"scopes of {self.name}", missing, timeout_seconds=SCOPES_SECONDS)


class AppSource(Resource):
    """The app's files, in one of a few folders; the deployment says which one runs."""

    def __init__(self, address: str, source: Source, sources: Sources, target: Target) -> None:
        self.folder = sources.place_for(source.digest)
        super().__init__(f"{address}.source", {"name": "source"}, target)
        self._source = source
        self._sources = sources

    @property
    def desired(self) -> Body:
        return {"digest": self._source.digest}

    def read(self) -> Body | None:
        """What runs, when the new source is not there yet: so that a plan shows which files differ."""
        if self._sources.find(self._source.digest):
            return self.desired
        running = self._sources.manifest(self._sources.running or "")
        return {"digest": running.digest, "files": running.files} if running else None

    def create(self) -> None:
        self.update(self.desired)

    def update(self, wanted: Body) -> None:
        """The former source stays where it is, so there is nothing to put back."""
        if wanted.get("digest") != self._source.digest:
            return
        files = self._source.files()
        sent = self._sources.upload(self.folder, files, self._source.digest)
        self.target.say(f"{sent} of {len(files)} files uploaded to {self.folder}")

    def delete(self) -> None:
        """With all that ran before it."""
        self._sources.delete()

    def explain(self, several: Mapping[str, Any], actual: Body) -> list[str]:
        was, now = actual.get("files") or {}, self._source.digests()
        marks = [*(("+", path) for path in now if path not in was), *(("-", path) for path in was if path not in now)]
        marks += [("~", path) for path in now if path in was and was[path] != now[path]]
        lines = [f"{mark} {path}" for mark, path in sorted(marks, key=lambda item: item[1])]
        more = len(lines) - MAX_LISTED
        return [*lines[:MAX_LISTED], *([f"... and {more} more files"] if more > 0 else [])]


class AppDeployment(Resource):
    """Which source the app runs, and that it runs."""

    is_release: ClassVar[bool] = True

    def __init__(self, address: str, declared: Body, source: AppSource, sources: Sources, target: Target) -> None:
        super().__init__(f"{address}.deployment", declared, target)
        self._source = source
        self._sources = sources
        self._former: str | None = None

    @property
    def name(self) -> str:
        return f"deployment of {super().name}"

    @property
    def path(self) -> str:
        return f"{API}/{self.body['name']}"

    @property
    def digest(self) -> str:
        return str(self._source.desired["digest"])

    @property
    def folder(self) -> str:
        return self._source.folder

    @property
    def desired(self) -> Body:
        return {"source": self.digest[:16], "status": "RUNNING"}

    def read(self) -> Body | None:
        """A deployment on its way, of a run that was killed perhaps, and a start are waited for."""
        if self.target.find(self.path) is None:
            return None
        self._wait_for_end()
        app = self._app()
        self._former = running_folder(app)
        if self._former is None:
            return None
        manifest = self._sources.manifest(self._former)
        return {"source": manifest.digest[:16] if manifest else self._former, "status": status_of(app)}

    def create(self) -> None:
        self.deploy(self.folder)

    def update(self, wanted: Body) -> None:
        self.deploy(self.folder)

    def delete(self) -> None:
        """It goes with its app."""

    def deploy(self, folder: str) -> None:
        """Raises `Unavailable`, with the end of the log said, when the app does not start."""
        made = self.target.do("POST", f"{self.path}/deployments", {"source_code_path": folder, "mode": "SNAPSHOT"})
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

    def recover(self) -> None:
        """After a deployment that failed: wait for the former one, which the platform starts again; one that crashed,
        because it found the new configuration, is started once more. Raises `Unavailable` when it does not run."""
        self._wait_for_end()
        app = self._app()
        if status_of(app) == "RUNNING" and running_folder(app) == self._former:
            return
        if self._former is not None:
            self.target.say("starting the former deployment again")
            self.deploy(self._former)

    def settle(self) -> None:
        self._sources.clean()

    def explain(self, several: Mapping[str, Sequence[Difference]], actual: Body) -> list[str]:
        lines = super().explain(several, actual)
        return [line if not line.startswith("status") else f"{line}, which a new deployment mends" for line in lines]

    def _say_log(self) -> None:
        """The end of the app's log, as long as the app is there."""
        headers = self.target.client.config.authenticate()
        for entry in recent_log(str(self._app().get("url")), headers, lines=LOG_LINES):
            self.target.say(f"  {entry.message}")

    def _wait_for_end(self) -> None:
        def pending() -> str | None:
            return "IN_PROGRESS" if self._app().get("pending_deployment") else None

        def starting() -> str | None:
            state = status_of(self._app())
            return state if state in ("DEPLOYING", "STARTING", "UPDATING") else None

        self.target.wait(f"app {self.body['name']}", pending, timeout_seconds=READY_SECONDS)
        self.target.wait(f"app {self.body['name']}", starting, timeout_seconds=START_SECONDS)

    def _app(self) -> dict[str, Any]:
        found: dict[str, Any] = self.target.do("GET", self.path)
        return found


def running_folder(app: Body) -> str | None:
    """The source of the deployment the app runs. An app that was stopped has none on the platform (the Databricks CLI's
    test server, apps.go)."""
    active = app.get("active_deployment")
    return absolute(str(active["source_code_path"])) if active and active.get("source_code_path") else None


def status_of(app: Body) -> str:
    """RUNNING, or what is wrong: the compute's state unless it is up, then the application's."""
    compute = str((app.get("compute_status") or {}).get("state", "UNAVAILABLE"))
    return compute if compute != "ACTIVE" else str((app.get("app_status") or {}).get("state", "UNAVAILABLE"))


def find_app(target: Target) -> dict[str, Any] | None:
    return target.find(f"{API}/{target.bundle.app['name']}")
