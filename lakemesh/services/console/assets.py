"""The pages' own files, and the library that draws the charts, when it is installed."""

import asyncio
import gzip
import sys
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from importlib.resources import files
from importlib.resources.abc import Traversable

from starlette.requests import Request
from starlette.responses import RedirectResponse, Response
from starlette.routing import BaseRoute, Route

from lakemesh.errors import NotFound, Unavailable
from lakemesh.http import problem_response

MEDIA_TYPES = {".html": "text/html", ".css": "text/css", ".js": "text/javascript", ".svg": "image/svg+xml"}
HEADERS = {
    "Content-Security-Policy": "default-src 'self'; img-src 'self' data:; frame-ancestors 'none'; base-uri 'none'; "
    "form-action 'none'",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cache-Control": "no-cache",
}
BUNDLE_SECONDS = 60.0
MAKE_BUNDLE = "import sys, vl_convert; sys.stdout.write(vl_convert.javascript_bundle())"


class ChartLibrary:
    """Vega and Vega-Lite as one script, out of the package `vl-convert-python` (the extra `charts`). It is made once,
    by another process: that takes two seconds and 150 MB, which are gone with it."""

    def __init__(self) -> None:
        self._making: asyncio.Task[bytes] | None = None

    @property
    def version(self) -> str | None:
        """None when it is not installed."""
        return installed_version()

    async def script(self) -> bytes:
        """The script, compressed with gzip. Raises `NotFound` without the package, `Unavailable` when it fails."""
        if self.version is None:
            raise NotFound("Charts need the extra 'charts': pip install 'lakemesh[charts]'.")
        if self._making is None or (self._making.done() and self._making.exception() is not None):
            self._making = asyncio.ensure_future(make_bundle())
        return await asyncio.shield(self._making)


@cache
def installed_version() -> str | None:
    try:
        return version("vl-convert-python")
    except PackageNotFoundError:
        return None


async def make_bundle() -> bytes:
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-c", MAKE_BUNDLE, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.DEVNULL
    )
    try:
        async with asyncio.timeout(BUNDLE_SECONDS):
            script, _ = await process.communicate()
    except TimeoutError:
        process.kill()
        await process.wait()
        raise Unavailable("Making the script of the charts took too long.") from None
    if process.returncode != 0 or not script:
        raise Unavailable("The package vl-convert-python did not give the script of the charts.")
    return await asyncio.to_thread(gzip.compress, script, 6)


def page_files() -> dict[str, Traversable]:
    folder = files(__package__ or "").joinpath("pages")
    return {file.name: file for file in folder.iterdir() if file.name[file.name.rfind(".") :] in MEDIA_TYPES}


def asset_routes(library: ChartLibrary) -> list[BaseRoute]:
    """The page at `/`, its files under `/console/`. They hold no data, so they are for everybody."""
    assets = page_files()

    async def page(request: Request) -> Response:
        return asset_response(assets["index.html"])

    async def asset(request: Request) -> Response:
        file = assets.get(request.path_params["name"])
        return problem_response(NotFound("There is no such file.")) if file is None else asset_response(file)

    async def vega(request: Request) -> Response:
        try:
            script = await library.script()
        except (NotFound, Unavailable) as error:
            return problem_response(error)
        headers = {**HEADERS, "Content-Encoding": "gzip", "Cache-Control": "max-age=86400"}
        return Response(script, media_type="text/javascript", headers=headers)

    async def to_page(request: Request) -> Response:
        return RedirectResponse("/")

    return [
        Route("/", page),
        Route("/console", to_page),
        Route("/console/vega.js", vega),
        Route("/console/{name}", asset),
    ]


def asset_response(file: Traversable) -> Response:
    return Response(file.read_bytes(), media_type=MEDIA_TYPES[file.name[file.name.rfind(".") :]], headers=HEADERS)
