"""The wire to another MCP server: Streamable HTTP, in the revision that the server speaks.

Over httpx, and not through an SDK: `mcp` pins what agents of our users pin differently.
"""

import asyncio
import secrets
from collections.abc import AsyncGenerator, Mapping
from contextlib import aclosing, suppress
from typing import Any

import httpx
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator
from pydantic_core import from_json, to_json

from lakemesh import __version__
from lakemesh.bounded import BoundedTransport
from lakemesh.config.mcp import McpServerConfig
from lakemesh.errors import LakemeshError, Unavailable
from lakemesh.mcp.messages import CAPABILITIES_KEY, HANDSHAKE, METHOD_NOT_FOUND, MODERN, NAME_OF, VERSION_KEY

CONNECT_SECONDS = 5.0
CLIENT_INFO = {"name": "lakemesh", "version": __version__}
SERVER_ERROR = 500
WANTED = {"toolsListChanged": True}


class Refused(LakemeshError):
    """The other server answered with an error of the protocol, or of HTTP."""

    def __init__(self, code: int, message: str, status: int = 200) -> None:
        super().__init__(message)
        self.rpc_code = code
        self.http_status = status


class Connection:
    """Requests to one server, in the revision it speaks. Raises `Unavailable` when it cannot be reached, and `Refused`
    for what it answers with an error."""

    def __init__(self, config: McpServerConfig) -> None:
        self._config = config
        timeout = httpx.Timeout(None, connect=CONNECT_SECONDS)
        self._http = httpx.AsyncClient(timeout=timeout, transport=BoundedTransport())
        self._session_id: str | None = None
        self.version = ""

    @property
    def modern(self) -> bool:
        return self.version == MODERN

    async def open(self) -> None:
        """Find out what the server speaks, the newest first."""
        self.version, self._session_id = MODERN, None
        try:
            await self.request("server/discover", {})
        except Refused:
            await self._shake_hands()

    async def _shake_hands(self) -> None:
        self.version = HANDSHAKE[0]
        params = {"protocolVersion": self.version, "capabilities": {}, "clientInfo": CLIENT_INFO}
        answer = await self.request("initialize", params)
        self.version = str(answer.get("protocolVersion", self.version))
        await self._notify("notifications/initialized")

    async def request(self, method: str, params: Mapping[str, Any], headers: Mapping[str, str] | None = None) -> Any:
        """The result, whatever was said before it."""
        async with aclosing(self.exchange(method, params, headers)) as messages:
            async for message in messages:
                if "result" in message:
                    return message["result"]
        raise Unavailable(f"The server at {self._config.url} ended its answer before it was whole.")

    async def exchange(
        self, method: str, params: Mapping[str, Any], headers: Mapping[str, str] | None = None
    ) -> AsyncGenerator[dict[str, Any]]:
        """The messages of one request: notifications, and its answer last. Leaving it cancels the request."""
        request_id = secrets.token_hex(8)
        meta = {VERSION_KEY: self.version, CAPABILITIES_KEY: {}, "io.modelcontextprotocol/clientInfo": CLIENT_INFO}
        said = {**params, "_meta": {**meta, **params.get("_meta", {})}} if self.modern else dict(params)
        body = {"jsonrpc": "2.0", "id": request_id, "method": method, "params": said}
        ended = False
        try:
            async with aclosing(self._post(body, headers)) as messages:
                async for message in messages:
                    if message.get("id") == request_id and "method" not in message:
                        ended = True
                        self._raise_error(message)
                        yield message
                        return
                    await self._take(message)
                    yield message
        finally:
            if not ended and not self.modern and self._session_id:
                with suppress(LakemeshError):
                    await self._notify("notifications/cancelled", requestId=request_id)

    async def listen(self) -> AsyncGenerator[dict[str, Any]]:
        """What the server tells beside any answer, as long as it does."""
        if self.modern:
            async with aclosing(self.exchange("subscriptions/listen", {"notifications": WANTED})) as messages:
                async for message in messages:
                    yield message
            return
        async with self._http.stream("GET", self._config.url, headers=self._headers("GET", {})) as response:
            if response.is_success:
                async for message in events_of(response):
                    yield message

    async def close(self) -> None:
        if self._session_id:
            with suppress(httpx.HTTPError, TimeoutError):
                async with asyncio.timeout(CONNECT_SECONDS):
                    await self._http.delete(self._config.url, headers=self._headers("DELETE", {}))
        await self._http.aclose()

    async def _notify(self, method: str, **params: Any) -> None:
        body = {"jsonrpc": "2.0", "method": method, "params": params}
        async with aclosing(self._post(body, None)) as messages:
            async for _ in messages:
                pass

    async def _take(self, message: Mapping[str, Any]) -> None:
        """A request of the server's: it is told that nothing of the kind is done here."""
        if "method" in message and "id" in message:
            result: dict[str, Any] = {
                "error": {"code": METHOD_NOT_FOUND, "message": "This client answers no requests."}
            }
            if message["method"] == "ping":
                result = {"result": {}}
            async with aclosing(self._post({"jsonrpc": "2.0", "id": message["id"], **result}, None)) as messages:
                async for _ in messages:
                    pass

    def _raise_error(self, message: Mapping[str, Any]) -> None:
        error = message.get("error")
        if isinstance(error, dict):
            raise Refused(int(error.get("code", 0)), str(error.get("message", ""))[:500])

    async def _post(self, body: Mapping[str, Any], headers: Mapping[str, str] | None) -> AsyncGenerator[dict[str, Any]]:
        try:
            async with self._http.stream(
                "POST",
                self._config.url,
                content=to_json(body),
                headers={**self._headers("POST", body), **(headers or {})},
            ) as response:
                self._session_id = response.headers.get("mcp-session-id", self._session_id)
                if "text/event-stream" in response.headers.get("content-type", ""):
                    async for message in events_of(response):
                        yield message
                elif (answer := await self._answer(response)) is not None:
                    yield answer
        except httpx.HTTPError as error:
            reason = str(error) or type(error).__name__
            raise Unavailable(f"The server at {self._config.url} does not answer: {reason}") from error

    async def _answer(self, response: httpx.Response) -> dict[str, Any] | None:
        """The one message of an answer in JSON; None for one that has no body."""
        content = await response.aread()
        if response.status_code >= SERVER_ERROR:
            raise Unavailable(f"The server at {self._config.url} answered with status {response.status_code}.")
        try:
            message = from_json(content) if content else None
        except ValueError:
            message = None
        if isinstance(message, dict) and ("result" in message or "error" in message):
            return message
        if response.is_success:
            return None
        raise Refused(0, f"status {response.status_code}", response.status_code)

    def _headers(self, verb: str, body: Mapping[str, Any]) -> dict[str, str]:
        headers = {"Accept": "application/json, text/event-stream", "MCP-Protocol-Version": self.version}
        if verb == "POST":
            headers["Content-Type"] = "application/json"
        if self._config.token:
            headers["Authorization"] = f"Bearer {self._config.token}"
        if self._session_id:
            headers["Mcp-Session-Id"] = self._session_id
        if self.modern and "method" in body:
            headers["Mcp-Method"] = body["method"]
            if (named := NAME_OF.get(body["method"])) is not None:
                headers["Mcp-Name"] = str(body["params"].get(named, ""))
        TraceContextTextMapPropagator().inject(headers)
        return headers


async def events_of(response: httpx.Response) -> AsyncGenerator[dict[str, Any]]:
    """The messages of server-sent events; empty ones and comments are passed over. Raises `Unavailable` for an event
    that is no message."""
    data: list[str] = []
    async for line in response.aiter_lines():
        if line.startswith("data:"):
            data.append(line[5:].removeprefix(" "))
        elif not line and data:
            text, data = "\n".join(data), []
            if text.strip():
                yield message_of(text, response.url)


def message_of(text: str, url: httpx.URL) -> dict[str, Any]:
    try:
        message = from_json(text)
    except ValueError:
        message = None
    if not isinstance(message, dict):
        raise Unavailable(f"The server at {url} sent an event that is no message.")
    return message
