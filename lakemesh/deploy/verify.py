"""Does the deployed app do its work: it is up, it runs an agent, and what it did is found in Delta."""

import time
from collections.abc import Callable, Mapping
from typing import Any

import httpx

from lakemesh.deadline import Deadline
from lakemesh.deploy.desired import read_config
from lakemesh.deploy.resources.base import Target
from lakemesh.deploy.resources.catalog import run_statement
from lakemesh.errors import DeadlineExceeded, LakemeshError, NotFound, Unavailable

REQUEST_SECONDS = 30.0
POLL_SECONDS = 1.0
UUID = "0123456789abcdef-"


class Verification:
    """Each method is one check; it gives back what it found, and raises `LakemeshError` with what is wrong."""

    def __init__(self, target: Target, *, timeout_seconds: float) -> None:
        self._target = target
        self._deadline = Deadline.after(timeout_seconds)
        self._headers: dict[str, str] = target.client.config.authenticate()
        self._execution_id = ""
        self.url = app_url(target)

    def alive(self) -> str:
        """An app that has just been started may take a moment."""

        def ask() -> str | None:
            try:
                return f"lakemesh {self._ask('GET', '/health/live')['version']}"
            except Unavailable:
                return None

        return self._until(ask, "The app does not answer at /health/live")

    def ready(self) -> str:
        """A part may be a moment behind the app's start. What is degraded, the app tells its operators alone."""
        found: dict[str, Any] = {"status": "not ready"}

        def ask() -> str | None:
            found.update(self._ask("GET", "/health/ready"))
            return "ready" if found["status"] == "ready" else None

        try:
            return self._until(ask, "The app is not ready")
        except DeadlineExceeded:
            why = found.get("degraded") or "server.operators names who may read the reasons at /health/ready"
            raise Unavailable(f"The app is {found['status']}: {why}") from None

    def executes(self, agent: str, data: Any) -> str:
        found = self._ask("POST", "/api/execute", {"agent": agent, "data": data})
        self._execution_id = str(found["metadata"]["execution_id"])
        return f"{agent} answered in {found['metadata']['latency_ms']:.0f} ms"

    def recorded(self) -> str:
        """The execution's row, in the table the app's telemetry goes to."""
        table = read_config(self._target).telemetry.table("agent_executions")
        if not self._execution_id or set(self._execution_id) - set(UUID):
            raise LakemeshError("The app answered without an execution id.")
        statement = f"SELECT count(*) FROM {table} WHERE execution_id = '{self._execution_id}'"  # noqa: S608 (checked)

        def ask() -> str | None:
            found = int(run_statement(self._target, statement)[0][0])
            return f"{found} row in {table}" if found else None

        return self._until(ask, f"The execution is not in {table}")

    def _ask(self, method: str, path: str, body: Mapping[str, Any] | None = None) -> Any:
        try:
            answer = httpx.request(
                method,
                self.url + path,
                json=body,
                headers=self._headers,
                timeout=min(REQUEST_SECONDS, max(1.0, self._deadline.remaining_seconds())),
            )
            content = answer.json()
        except (httpx.HTTPError, ValueError) as error:
            raise Unavailable(f"{self.url}{path} does not answer as a lakemesh server does: {error!r}.") from None
        if answer.is_error:
            detail = content.get("detail") or content.get("message") or answer.reason_phrase
            raise Unavailable(f"{path} answers {answer.status_code}: {detail}")
        return content

    def _until(self, ask: Callable[[], str | None], otherwise: str) -> str:
        while True:
            found = ask()
            if found is not None:
                return found
            if self._deadline.remaining_seconds() <= POLL_SECONDS:
                raise DeadlineExceeded(f"{otherwise}, within the time there was.")
            time.sleep(POLL_SECONDS)


def app_url(target: Target) -> str:
    """Raises `NotFound` when the app is not deployed."""
    name = target.bundle.app["name"]
    found = target.find(f"/api/2.0/apps/{name}")
    if found is None or not found.get("url"):
        raise NotFound(f"There is no app {name!r} in the workspace; `lakemesh apply` makes it.")
    return str(found["url"]).rstrip("/")
