"""A server on a free loopback port, in a thread of its own."""

import asyncio
import threading
from collections.abc import Coroutine, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, TypeVar

import httpx
import uvicorn

from lakemesh.app import App, create_app
from lakemesh.composition.services import Services
from lakemesh.config.settings import Settings
from lakemesh.deadline import Deadline
from lakemesh.edge.protocol import ConnectionRules, bounded_protocol

T = TypeVar("T")

START_SECONDS = 30.0


class ThreadedServer(uvicorn.Server):
    """Says when it is ready instead of being asked."""

    def __init__(self, config: uvicorn.Config, app: App) -> None:
        super().__init__(config)
        self.app = app
        self.ended_start = threading.Event()
        self._loop: asyncio.AbstractEventLoop | None = None

    async def startup(self, sockets: list[Any] | None = None) -> None:
        self._loop = asyncio.get_running_loop()
        await super().startup(sockets)
        self.ended_start.set()

    @property
    def url(self) -> str:
        host, port = self.servers[0].sockets[0].getsockname()[:2]
        return f"http://{host}:{port}"

    def health(self, headers: Mapping[str, str] | None = None) -> dict[str, Any]:
        """What it says of itself once it has warmed up. Raises `TimeoutError`."""
        deadline = Deadline.after(START_SECONDS)
        while True:
            found: dict[str, Any] = httpx.get(f"{self.url}/health/ready", headers=headers, timeout=START_SECONDS).json()
            if found["status"] != "warming":
                return found
            if deadline.remaining_seconds() <= 0:
                raise TimeoutError(f"The server has not warmed up within {START_SECONDS:.0f} s: {found}")

    @property
    def services(self) -> Services:
        """The server's own parts; what they are asked belongs on the server's loop: see `run_there`."""
        return self.app.opened_services

    def run_there(self, work: Coroutine[Any, Any, T]) -> T:
        """A coroutine's result, run on the server's loop."""
        if self._loop is None:
            raise RuntimeError("The server does not run.")
        return asyncio.run_coroutine_threadsafe(work, self._loop).result(START_SECONDS)


@contextmanager
def threaded_server(settings: Settings) -> Iterator[ThreadedServer]:
    """The server, stopped by its own graceful way. Raises why it could not start."""
    app = create_app(settings)
    rules = ConnectionRules()
    app.on_config(rules.configure)
    protocol = bounded_protocol(rules)
    server = ThreadedServer(
        uvicorn.Config(app, http=protocol, host="127.0.0.1", port=0, log_config=None, timeout_graceful_shutdown=5), app
    )

    def run() -> None:
        try:
            asyncio.run(server.serve())
        except SystemExit:  # how uvicorn says that it did not start; `app.start_error` says why
            pass
        finally:
            server.ended_start.set()

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    if not server.ended_start.wait(START_SECONDS):
        raise TimeoutError(f"The server did not start within {START_SECONDS:.0f} s.")
    if app.start_error is not None:
        raise app.start_error
    if not server.started:
        raise RuntimeError("The server did not start; its log says why.")
    try:
        yield server
    finally:
        server.should_exit = True
        thread.join(START_SECONDS)
        if thread.is_alive():
            raise TimeoutError(f"The server did not stop within {START_SECONDS:.0f} s.")
