"""The server with a steady source of spans in it, which `POST /spans/{per_second}` sets; zero stops it."""

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager

from opentelemetry.trace import Tracer
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Mount, Route

from lakemesh.cli.serve import spare_the_garbage_collector
from lakemesh.composition.doors import open_doors
from lakemesh.composition.services import open_services
from lakemesh.config.settings import Settings

ATTRIBUTES = {f"attribute.{number}": number if number % 2 else f"value number {number}" for number in range(10)}
TICK_SECONDS = 0.01


def make_spans(tracer: Tracer, count: int) -> None:
    for _ in range(count):
        tracer.start_span("invoke_agent echo", attributes=ATTRIBUTES).end()


class SpanSource:
    def __init__(self, tracer: Tracer) -> None:
        self._tracer = tracer
        self._per_second = 0

    async def set_rate(self, request: Request) -> Response:
        self._per_second = int(request.path_params["per_second"])
        return Response()

    async def run(self) -> None:
        before = time.perf_counter()
        while True:
            await asyncio.sleep(TICK_SECONDS)
            now = time.perf_counter()
            make_spans(self._tracer, round(self._per_second * (now - before)))
            before = now


def create_app() -> Starlette:
    @asynccontextmanager
    async def lifespan(app: Starlette) -> AsyncIterator[None]:
        async with open_services(Settings()) as services, AsyncExitStack() as closing:
            source = SpanSource(services.telemetry.tracer)
            app.router.routes += [
                Route("/spans/{per_second:int}", source.set_rate, methods=["POST"]),
                Mount("/", open_doors(services, closing)),
            ]
            spare_the_garbage_collector()
            running = asyncio.ensure_future(source.run())
            yield
            running.cancel()

    return Starlette(lifespan=lifespan)


app = create_app()
