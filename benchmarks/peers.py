"""The named peers that lakemesh is measured against."""

from typing import Any

from fastapi import FastAPI
from pydantic import BaseModel


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
