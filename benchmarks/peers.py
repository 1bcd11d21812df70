"""The named peers that lakemesh is measured against."""

from typing import Any

from fastapi import FastAPI
from pydantic import BaseModel
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route


class Body(BaseModel):
    agent_name: str
    data: dict[str, Any]


def fastapi_echo() -> FastAPI:
    """A bare FastAPI echo with a Pydantic body, as its tutorial has it: no limits, no spans, no rows."""
    app = FastAPI()

    @app.post("/echo")
    async def echo(body: Body) -> Body:
        return body

    return app


fastapi_app = fastapi_echo()


def starlette_echo() -> Starlette:
    """A bare Starlette echo of a JSON body."""

    async def echo(request: Request) -> Response:
        return JSONResponse(await request.json())

    return Starlette(routes=[Route("/a2a/rpc", echo, methods=["POST"])])


starlette_app = starlette_echo()
