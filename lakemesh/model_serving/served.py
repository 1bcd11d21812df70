"""A package that answers: an engine of its own, on an event loop of its own, for callers that are not async."""

import asyncio
import tempfile
import threading
from collections.abc import AsyncGenerator, Coroutine, Iterator, Mapping
from contextlib import AsyncExitStack, aclosing
from pathlib import Path
from typing import Any, TypeVar

from pydantic_core import to_json

from lakemesh.composition.services import Services, open_services
from lakemesh.config.settings import Settings
from lakemesh.model_serving.package import AGENT_FILE
from lakemesh.model_serving.users import Users
from lakemesh.schemas import Identity
from lakemesh.services.responses.api import ResponsesApi, emitted
from lakemesh.services.responses.request import ResponsesRequest
from lakemesh.services.rest import parse

T = TypeVar("T")

START_SECONDS = 120.0
CLOSE_SECONDS = 15.0


class Served:
    """`folder` is what `write_package` wrote. Requests and answers are those of the server's `/api/responses`.

    Inside Model Serving the model's own credentials are those of its resources, and an agent that acts for its caller
    does so with the token that the platform hands over. Elsewhere the credentials are those that the SDK finds, and
    they are the one user's for whom the process works."""

    def __init__(self, folder: Path) -> None:
        self._agent = (folder / AGENT_FILE).read_text().strip()
        self._settings = settings_for(folder)
        self._users = Users(self._settings)
        self._stack = AsyncExitStack()
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="lakemesh-model", daemon=True)

    def open(self) -> None:
        """Raises what a server would not start for."""
        self._thread.start()
        try:
            self._api = self._run(self._open(), START_SECONDS)
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        try:
            self._run(self._stack.aclose(), CLOSE_SECONDS)
        finally:
            self._loop.call_soon_threadsafe(self._loop.stop)
            self._thread.join(CLOSE_SECONDS)

    def respond(self, request: Mapping[str, Any]) -> dict[str, Any]:
        """The response. Raises the designed error that ended it."""
        identity = self._users.caller()
        return self._run(self._respond(self._body(request), identity))

    def stream(self, request: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
        """Its events, as they come; a caller that leaves ends the run."""
        identity = self._users.caller()
        events = self._stream(self._body(request), identity)
        try:
            while (event := self._run(anext(events, None))) is not None:
                yield event
        finally:
            self._run(events.aclose())

    def _body(self, request: Mapping[str, Any]) -> ResponsesRequest:
        return parse(ResponsesRequest, to_json({**request, "model": self._agent, "store": False}))

    async def _open(self) -> ResponsesApi:
        services: Services = await self._stack.enter_async_context(open_services(self._settings))
        return ResponsesApi(services.router, services.config.current)

    async def _respond(self, body: ResponsesRequest, identity: Identity) -> dict[str, Any]:
        return await self._api.ended(await self._api.start(body, identity))

    async def _stream(self, body: ResponsesRequest, identity: Identity) -> AsyncGenerator[dict[str, Any]]:
        async with aclosing(emitted(await self._api.start(body, identity))) as events:
            async for event in events:
                yield event

    def _run(self, work: "Coroutine[Any, Any, T]", timeout_seconds: float | None = None) -> T:
        future = asyncio.run_coroutine_threadsafe(work, self._loop)
        try:
            return future.result(timeout_seconds)
        except BaseException:
            future.cancel()
            raise


def settings_for(folder: Path) -> Settings:
    settings = Settings()
    changes: dict[str, Any] = {
        "config_folder": folder,
        "config": Settings.model_fields["config"].default,
        "environment": "dev",  # the files are merged already
        "local_config": True,
    }
    if settings.in_model_serving:
        changes |= {"workspace": "databricks", "home": Path(tempfile.mkdtemp(prefix="lakemesh-"))}
    elif not settings.behind_platform_proxy:
        changes["default_credentials"] = settings.workspace == "databricks"
    return settings.model_copy(update=changes)
