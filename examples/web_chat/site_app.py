"""A site with a page of its own, and lakemesh below /mesh."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import FileResponse
from starlette.routing import Mount, Route

from lakemesh.app import create_app
from lakemesh.config.settings import Settings

HERE = Path(__file__).parent


def make_site(settings: Settings) -> Starlette:
    mesh = create_app(settings)

    @asynccontextmanager
    async def lifespan(_: Starlette) -> AsyncIterator[None]:
        async with mesh.lifespan():
            yield

    async def page(_: Request) -> FileResponse:
        return FileResponse(HERE / "page.html")

    return Starlette(routes=[Route("/", page), Mount("/mesh", mesh)], lifespan=lifespan)


app = make_site(Settings(config_folder=HERE / "config"))
