"""The ASGI application: what is running, behind its doors."""

import asyncio
import signal
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager

import structlog
from starlette.types import ASGIApp, Receive, Scope, Send

from lakemesh.composition.doors import open_doors
from lakemesh.composition.services import Services, open_services
from lakemesh.config.schema import Config
from lakemesh.config.server import ServerConfig
from lakemesh.config.settings import Settings
from lakemesh.engine.containment import contain_exits
from lakemesh.errors import LakemeshError, Unavailable
from lakemesh.event_stream import remember_connection
from lakemesh.http import problem_response

logger = structlog.get_logger(__name__)

NOT_STARTED = "The application was not started: a program that mounts it runs its 'lifespan' too."


class App:
    """A server as an ASGI application. Building it is cheap; its parts open in `lifespan`, which servers run by the
    ASGI protocol, and which a program that mounts it in an application of its own enters itself:

        mesh = create_app()

        @asynccontextmanager
        async def lifespan(app):
            async with mesh.lifespan():
                yield

        app = Starlette(routes=[Mount("/agents", mesh)], lifespan=lifespan)

    It may be started again once it has ended. `start_error` is why the last start failed, `services` what is open while
    it runs.
    """

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._doors: ASGIApp | None = None
        self._on_config: list[Callable[[ServerConfig], None]] = []
        self.start_error: Exception | None = None
        self.services: Services | None = None

    @property
    def opened_services(self) -> Services:
        """`services`, of an application that runs. Raises `Unavailable`."""
        if self.services is None:
            raise Unavailable(NOT_STARTED)
        return self.services

    @asynccontextmanager
    async def lifespan(self) -> AsyncIterator[None]:
        """Everything open. Raises `ConfigurationInvalid` with every fault, or `WorkspaceUnavailable`."""
        async with opened(self._settings) as services, AsyncExitStack() as closing:
            self._doors = open_doors(services, closing)
            self._tell(services.config.current)
            services.config.subscribe(self._tell)
            contain_exits(asyncio.get_running_loop())
            services.config.start()
            self.services = services
            try:
                with refresh_on_hangup(services.config.request_refresh, services.prompts.request_refresh):
                    yield
                await services.router.drain(self._settings.drain_seconds / 2)
            finally:
                self._doors = self.services = None

    def on_config(self, listener: Callable[[ServerConfig], None]) -> None:
        """Have `listener` called with the section `server` once it is known, and whenever it changes."""
        self._on_config.append(listener)

    def _tell(self, config: Config) -> None:
        for listener in self._on_config:
            listener(config.server)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await self._answer_lifespan(receive, send)
        elif self._doors is None:
            await problem_response(Unavailable(NOT_STARTED))(scope, receive, send)
        else:
            remember_connection(scope, receive)
            await self._doors(scope, receive, send)

    async def _answer_lifespan(self, receive: Receive, send: Send) -> None:
        """ASGI's lifespan protocol. Why a start failed is one sentence, unless it is a fault of our own."""
        await receive()
        phase = "startup"
        self.start_error = None
        try:
            async with self.lifespan():
                await send({"type": "lifespan.startup.complete"})
                phase = "shutdown"
                await receive()
        except Exception as error:
            if phase == "startup":
                self.start_error = error
            if not isinstance(error, LakemeshError):
                logger.exception(f"{phase} failed")
            await send({"type": f"lifespan.{phase}.failed", "message": getattr(error, "detail", "")})
            return
        await send({"type": "lifespan.shutdown.complete"})


@asynccontextmanager
async def opened(settings: Settings) -> AsyncIterator[Services]:
    """The services; what the file system refuses while they open is a designed error."""
    async with AsyncExitStack() as stack:
        try:
            services = await stack.enter_async_context(open_services(settings))
        except OSError as error:
            where = error.filename or settings.home
            raise Unavailable(
                f"{where} cannot be used: {error.strerror or error}; LAKEMESH_HOME names another folder."
            ) from error
        yield services


def create_app(settings: Settings | None = None) -> App:
    """The ASGI application, by these settings or those of the environment."""
    return App(settings or Settings())


@contextmanager
def refresh_on_hangup(*refreshes: Callable[[], None]) -> Iterator[None]:
    """SIGHUP reads configuration and prompts again at once. Only a main thread may listen to signals; elsewhere (tests,
    embedding programs) the timed refresh is all there is."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    loop = asyncio.get_running_loop()
    loop.add_signal_handler(signal.SIGHUP, lambda: [refresh() for refresh in refreshes])
    try:
        yield
    finally:
        loop.remove_signal_handler(signal.SIGHUP)
