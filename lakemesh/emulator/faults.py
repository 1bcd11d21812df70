"""Bad days on demand: faults per route, latency, throttling, and a record of what was asked."""

import asyncio
import json
import re
from collections import deque
from collections.abc import Awaitable, Callable, Mapping, MutableMapping
from typing import Any

from fastapi import APIRouter, Request
from pydantic import BaseModel, Field
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from lakemesh.emulator.errors import ERROR_CODES

MAX_RECORDED = 10_000


class Fault(BaseModel, extra="forbid"):
    """What happens to the next `times` requests whose method and path match. `delay_seconds` comes first. With
    `after_effect` the request is carried out and only its answer is replaced. `cut_body` sends half the answer and
    breaks the connection."""

    method: str = Field(default="*", description="an HTTP method, or * for any")
    path: str = Field(default=".*", description="a regular expression the whole path has to match")
    times: int = Field(default=1, ge=1)
    status: int | None = Field(default=None, ge=400, le=599)
    error_code: str | None = None
    retry_after_seconds: int | None = Field(default=None, ge=0)
    delay_seconds: float = Field(default=0.0, ge=0)
    cut_body: bool = False
    after_effect: bool = False

    def matches(self, method: str, path: str) -> bool:
        return self.method in ("*", method) and re.fullmatch(self.path, path) is not None


class Faults:
    """ASGI middleware over the whole emulator. Its own routes, under `/emulator`, have no faults."""

    def __init__(self, app: ASGIApp, *, record: "Record") -> None:
        self._app = app
        self._record = record

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or scope["path"].startswith("/emulator"):
            await self._app(scope, receive, send)
            return
        fault = self._record.take(scope)
        await asyncio.sleep(self._record.latency_seconds + (fault.delay_seconds if fault else 0.0))
        if fault is None:
            await self._app(scope, receive, send)
        elif fault.status is not None:
            if fault.after_effect:
                await self._app(scope, receive, ignore)
            await answer_fault(fault, fault.status, send)
        else:
            await self._app(scope, receive, cut(send) if fault.cut_body else send)


class Record:
    """The faults that are waiting, and the requests that came (the newest `MAX_RECORDED`)."""

    def __init__(self, latency_seconds: float) -> None:
        self.latency_seconds = latency_seconds
        self.faults: list[Fault] = []
        self.requests: deque[dict[str, Any]] = deque(maxlen=MAX_RECORDED)

    def take(self, scope: Scope) -> Fault | None:
        """The fault this request meets, one time less of it left."""
        method, path = scope["method"], scope["path"]
        fault = next((fault for fault in self.faults if fault.matches(method, path)), None)
        if fault is not None:
            fault.times -= 1
            if not fault.times:
                self.faults.remove(fault)
        headers = {name.decode(): value.decode("latin-1") for name, value in scope["headers"]}
        self.requests.append(
            {
                "method": method,
                "path": path,
                "query": scope["query_string"].decode(),
                "user_agent": headers.get("user-agent"),
                "authorized": "authorization" in headers,
                "fault": fault is not None,
            }
        )
        return fault


async def ignore(message: Message) -> None:
    """Nobody hears this answer."""


async def answer_fault(fault: Fault, status: int, send: Send) -> None:
    body = {"error_code": fault.error_code or ERROR_CODES.get(status, "UNKNOWN"), "message": "A fault was asked for."}
    headers = [(b"content-type", b"application/json")]
    if fault.retry_after_seconds is not None:
        headers.append((b"retry-after", str(fault.retry_after_seconds).encode()))
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": json.dumps(body).encode()})


class ConnectionCut(Exception):
    """Ends a request so that the server closes its connection."""


def cut(send: Send) -> Callable[[MutableMapping[str, Any]], Awaitable[None]]:
    """Let the headers and half of the first part of the body through."""

    async def send_half(message: Mapping[str, Any]) -> None:
        if message["type"] != "http.response.body":
            await send({**message})
            return
        body = message.get("body", b"")
        await send({**message, "body": body[: len(body) // 2], "more_body": True})
        raise ConnectionCut

    return send_half


def routes(record: Record) -> APIRouter:
    router = APIRouter(prefix="/emulator")

    @router.post("/faults")
    async def add_fault(fault: Fault) -> dict[str, int]:
        record.faults.append(fault)
        return {"waiting": len(record.faults)}

    @router.delete("/faults")
    async def clear_faults() -> dict[str, int]:
        record.faults.clear()
        return {"waiting": 0}

    @router.get("/requests")
    async def requests() -> list[dict[str, Any]]:
        return list(record.requests)

    @router.delete("/requests")
    async def forget_requests(request: Request) -> dict[str, int]:
        record.requests.clear()
        return {"recorded": 0}

    return router
