"""`/docs`: Swagger UI over the OpenAPI document, with files of the package `fastapi-offline`; no host is asked."""

from functools import cache
from importlib.resources import files

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Route

HEADERS = {
    "Content-Security-Policy": "default-src 'self'; style-src 'self' 'unsafe-inline'; img-src 'self' data:; "
    "frame-ancestors 'none'; base-uri 'none'",
    "X-Content-Type-Options": "nosniff",
    "Cache-Control": "public, max-age=3600",
}
PAGE = """<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8"><meta name="viewport" content="width=device-width"><title>lakemesh: the API</title>
<link rel="stylesheet" href="docs/swagger-ui.css">
</head>
<body>
<div id="swagger-ui"></div>
<script src="docs/swagger-ui-bundle.js"></script><script src="docs/start.js"></script>
</body>
</html>
"""
START = 'SwaggerUIBundle({url: "openapi.json", dom_id: "#swagger-ui", deepLinking: true, validatorUrl: null});\n'


@cache
def asset(name: str) -> bytes:
    return files("fastapi_offline").joinpath("static", name).read_bytes()


def docs_routes() -> list[BaseRoute]:
    async def page(request: Request) -> Response:
        return Response(PAGE, media_type="text/html", headers=HEADERS)

    async def start(request: Request) -> Response:
        return Response(START, media_type="text/javascript", headers=HEADERS)

    async def script(request: Request) -> Response:
        return Response(asset("swagger-ui-bundle.js"), media_type="text/javascript", headers=HEADERS)

    async def style(request: Request) -> Response:
        return Response(asset("swagger-ui.css"), media_type="text/css", headers=HEADERS)

    return [
        Route("/docs", page),
        Route("/docs/start.js", start),
        Route("/docs/swagger-ui-bundle.js", script),
        Route("/docs/swagger-ui.css", style),
    ]
