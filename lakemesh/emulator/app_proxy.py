"""What stands in front of every app: signs callers in, vouches for them in headers, and shows the app's log."""

import asyncio
import json
import time
from collections.abc import AsyncIterator, Callable, Mapping
from typing import Any

import httpx
from fastapi import APIRouter, Request, WebSocket
from fastapi.responses import Response, StreamingResponse

from lakemesh.emulator.app_process import AppProcess
from lakemesh.emulator.errors import ApiError
from lakemesh.emulator.identity import Tokens

METHODS = ["GET", "POST", "PUT", "PATCH", "DELETE", "HEAD", "OPTIONS"]
NOT_FORWARDED = {"host", "authorization", "connection", "content-length", "transfer-encoding", "accept-encoding"}
FOLLOW_SECONDS = 0.2
LOG_LINES = 1_000
TIMEOUT_SECONDS = 120.0

FindProcess = Callable[[str], AppProcess]


def routes(
    tokens: Tokens, find_app: Callable[[str], Mapping[str, Any]], process_of: FindProcess, client: httpx.AsyncClient
) -> APIRouter:
    router = APIRouter(prefix="/emulator/apps")

    @router.api_route("/{name}/{path:path}", methods=METHODS, include_in_schema=False)
    async def forward(name: str, path: str, request: Request) -> Response:
        """As Databricks Apps' own proxy: `Authorization` ends here, and `X-Forwarded-*` are never the caller's. The
        app gets a token of its user only for scopes it declares, and only for those."""
        user = tokens.user_of(request.headers.get("authorization"))
        scopes = frozenset(find_app(name).get("user_api_scopes") or ())
        process = process_of(name)
        if not process.serves:
            raise ApiError(503, f"App {name!r} is not available.")
        sent = client.build_request(
            request.method,
            f"http://127.0.0.1:{process.port}/{path}",
            params=request.query_params,
            headers=forwarded(request, user, tokens.passed_on(user, scopes) if scopes else None),
            content=await request.body(),
        )
        try:
            answer = await client.send(sent, stream=True)
        except httpx.HTTPError:
            raise ApiError(502, f"App {name!r} did not answer.") from None
        headers = {key: value for key, value in answer.headers.items() if key not in NOT_FORWARDED}
        return StreamingResponse(whole(answer), answer.status_code, headers)

    @router.websocket("/{name}/logz/stream")
    async def logs(websocket: WebSocket, name: str) -> None:
        """One JSON object a line, as `databricks apps logs` reads them; the first message is a word to search for."""
        try:
            tokens.user_of(websocket.headers.get("authorization"))
            process = process_of(name)
        except ApiError:
            await websocket.close()
            return
        await websocket.accept()
        wanted = await websocket.receive_text()
        gone = asyncio.ensure_future(websocket.receive())
        try:
            async for line in lines(process, gone):
                if wanted in line:
                    entry = {"source": "APP", "timestamp": int(time.time() * 1_000), "message": line}
                    await websocket.send_text(json.dumps(entry))
        finally:
            gone.cancel()

    return router


def forwarded(request: Request, user: str, token: str | None) -> dict[str, str]:
    headers = {
        key: value
        for key, value in request.headers.items()
        if key not in NOT_FORWARDED and not key.startswith("x-forwarded-")
    }
    headers |= {"x-forwarded-access-token": token} if token else {}
    return headers | {
        "x-forwarded-user": user,
        "x-forwarded-email": user,
        "x-forwarded-preferred-username": user,
        "x-forwarded-host": request.headers.get("host", ""),
    }


async def whole(answer: httpx.Response) -> AsyncIterator[bytes]:
    try:
        async for part in answer.aiter_bytes():
            yield part
    finally:
        await answer.aclose()


async def lines(process: AppProcess, gone: "asyncio.Future[Any]") -> AsyncIterator[str]:
    """The newest lines of the log, and those that follow until the reader has gone."""
    with process.log.open(errors="replace") as log:
        for line in log.readlines()[-LOG_LINES:]:
            yield line.rstrip("\n")
        while not gone.done():
            if line := log.readline():
                yield line.rstrip("\n")
            else:
                await asyncio.wait([gone], timeout=FOLLOW_SECONDS)
