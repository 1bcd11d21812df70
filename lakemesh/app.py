"""The ASGI application: what is running, behind its doors."""

import asyncio
import gc
import signal
import threading
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response

from lakemesh.composition.doors import answer_http_exception, doors
from lakemesh.composition.services import open_services
from lakemesh.config.settings import Settings
from lakemesh.config.store import ConfigStore
from lakemesh.errors import LakemeshError
from lakemesh.http import problem_response


def create_app(settings: Settings | None = None) -> Starlette:
    """The ASGI application. Building it is cheap; its parts open when the server starts it."""
    settings = settings or Settings()

    @asynccontextmanager
    async def lifespan(app: Starlette) -> AsyncIterator[None]:
        async with open_services(settings) as services, AsyncExitStack() as closing:
            app.router.routes += doors(services, closing)
            assert app.middleware_stack is not None  # built by the call that runs this
            app.middleware_stack = services.telemetry.observed(app.middleware_stack)
            services.config.start()
            spare_the_garbage_collector()
            with refresh_on_hangup(services.config):
                yield
            await services.router.drain(settings.drain_seconds / 2)

    return Starlette(
        lifespan=lifespan,
        exception_handlers={HTTPException: answer_http_exception, Exception: answer_unexpected},
    )


def spare_the_garbage_collector() -> None:
    """What start-up made stays until the end, so the collector need not walk it again and again; and requests
    leave few cycles, so it need not run after every 700 new objects. Measured by `benchmarks/execute.py`."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(50_000, 20, 20)


@contextmanager
def refresh_on_hangup(config: ConfigStore) -> Iterator[None]:
    """SIGHUP reads the configuration again at once. Only a main thread may listen to signals; elsewhere (tests,
    embedding programs) the timed refresh is all there is."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    loop = asyncio.get_running_loop()
    loop.add_signal_handler(signal.SIGHUP, config.request_refresh)
    try:
        yield
    finally:
        loop.remove_signal_handler(signal.SIGHUP)


async def answer_unexpected(request: Request, error: Exception) -> Response:
    """A fault of the server's own: logged with its traceback by the server, answered without it."""
    return problem_response(LakemeshError("The server failed to answer; its operator finds why in the log."))
