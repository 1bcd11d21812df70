"""A typed client of a lakemesh server: `Client` for programs that wait, `AsyncClient` for those that do not.

    with Client("http://127.0.0.1:8000") as client:
        answer = client.execute("echo", {"message": "hello"})
        print(answer.result, answer.execution_id)

Every call raises `ServerError` with the server's code, status and what to do.
"""

import json
import uuid
from collections.abc import AsyncIterator, Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Self

import httpx

STREAM = {"accept": "text/event-stream"}
TIMEOUT_SECONDS = 300.0


class ServerError(Exception):
    """What the server answered in place of a result (RFC 9457). `problem` has everything it said, such as `errors` with
    each field at fault."""

    def __init__(self, status: int, problem: Mapping[str, Any]) -> None:
        self.status = status
        self.problem = problem
        self.code = str(problem.get("code") or status)
        self.execution_id: str | None = problem.get("execution_id")
        said = str(problem.get("detail") or problem.get("title") or "the server says no more")
        fields = [f"{fault.get('path')}: {fault.get('message')}" for fault in faults_of(problem)]
        super().__init__("\n  ".join([f"{self.code}: {said}", *fields]))


@dataclass(frozen=True, slots=True)
class Answer:
    """One answer. `confidence` is from 0 to 1, or None; `metadata` has what `docs/agents.md` says."""

    agent_name: str
    result: Any
    confidence: float | None
    metadata: Mapping[str, Any]

    @property
    def execution_id(self) -> str:
        return str(self.metadata["execution_id"])

    @property
    def degraded(self) -> list[str]:
        """The reasons why the answer is less than it could be; empty when it is not."""
        return list(self.metadata.get("degraded", ()))


@dataclass(frozen=True, slots=True)
class ServerEvent:
    """One event of a stream. `id` takes a durable invocation's events up again behind it."""

    type: str
    data: Mapping[str, Any]
    id: int | None = None


@dataclass(frozen=True, slots=True)
class Call:
    """A request and what its answer is read as; how it is sent is the client's own."""

    method: str
    path: str
    read: Callable[[httpx.Response], Any]
    json: Any = None
    headers: Mapping[str, str] | None = None
    params: Mapping[str, Any] | None = None


class Calls:
    """The requests there are, in one place for both clients."""

    @staticmethod
    def execute(
        agent: str, data: Mapping[str, Any], session_id: str | None, timeout_seconds: float | None, key: str | None
    ) -> Call:
        body = {"agent_name": agent, "data": dict(data), "session_id": session_id}
        headers = {"x-request-timeout": timeout_seconds, "idempotency-key": key}
        return Call("POST", "/api/execute", answer_of, json=given(body), headers=texts(headers))

    @staticmethod
    def batch(requests: Iterable[tuple[str, Mapping[str, Any]]]) -> Call:
        body = {"requests": [{"agent_name": agent, "data": dict(data)} for agent, data in requests]}
        return Call("POST", "/api/execute/batch", outcomes_of, json=body)

    @staticmethod
    def agents() -> Call:
        return Call("GET", "/api/agents", lambda response: response.json()["agents"])

    @staticmethod
    def feedback(execution_id: str, value: float, comment: str | None, correction: Any) -> Call:
        body = {"execution_id": execution_id, "value": value, "comment": comment, "correction": correction}
        return Call("POST", "/api/feedback", lambda response: None, json=given(body))

    @staticmethod
    def answer(execution_id: str, question_id: str, value: Any) -> Call:
        body = {"question_id": question_id, "value": value}
        return Call("POST", f"/api/executions/{execution_id}/answer", lambda response: None, json=body)

    @staticmethod
    def invoke(
        agent: str, data: Mapping[str, Any], session_id: str | None, background: bool, invocation_id: str | None
    ) -> Call:
        body = {
            "agent_name": agent,
            "input": dict(data),
            "session_id": session_id,
            "background": background,
            "id": invocation_id,
        }
        return Call("POST", "/api/invocations", httpx.Response.json, json=given(body))

    @staticmethod
    def invocation(invocation_id: str, verb: str | None = None) -> Call:
        path = f"/api/invocations/{invocation_id}"
        return (
            Call("GET", path, httpx.Response.json)
            if verb is None
            else Call("POST", f"{path}/{verb}", httpx.Response.json)
        )

    @staticmethod
    def events(invocation_id: str, after: int) -> Call:
        path = f"/api/invocations/{invocation_id}/events"
        return Call("GET", path, httpx.Response.json, params={"after": after})


class Client:
    """Close it, or use it as a context manager. `token` is sent as a bearer token; `options` are httpx' own."""

    def __init__(self, url: str, *, token: str | None = None, **options: Any) -> None:
        self.http = httpx.Client(base_url=url, **settings(token, options))

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        self.http.close()

    def execute(
        self,
        agent: str,
        data: Mapping[str, Any],
        *,
        session_id: str | None = None,
        timeout_seconds: float | None = None,
        idempotency_key: str | None = None,
    ) -> Answer:
        """One answer of one agent. With a key, the same request again is given the first one's answer."""
        answer: Answer = self._ask(Calls.execute(agent, data, session_id, timeout_seconds, idempotency_key))
        return answer

    def stream(self, agent: str, data: Mapping[str, Any], *, session_id: str | None = None) -> Iterator[ServerEvent]:
        """What happens on the way to the answer, which is in the last event, `completed`. Raises `ServerError` when it
        is `failed`."""
        return self._events(Calls.execute(agent, data, session_id, None, None))

    def batch(self, requests: Iterable[tuple[str, Mapping[str, Any]]]) -> list[Answer | ServerError]:
        """An outcome for each of many (agent, data), in order."""
        outcomes: list[Answer | ServerError] = self._ask(Calls.batch(requests))
        return outcomes

    def session(self, session_id: str | None = None) -> "Session":
        """A conversation: calls with the same `session_id`, a new one unless it is given."""
        return Session(self, session_id or uuid.uuid4().hex)

    def agents(self) -> list[dict[str, Any]]:
        """Those that this caller may call, with their schemas."""
        agents: list[dict[str, Any]] = self._ask(Calls.agents())
        return agents

    def feedback(self, execution_id: str, value: float, *, comment: str | None = None, correction: Any = None) -> None:
        """Say what an answer was worth, from 0 to 1."""
        self._ask(Calls.feedback(execution_id, value, comment, correction))

    def answer(self, execution_id: str, question_id: str, value: Any) -> None:
        """Answer an `asked` event of a stream; None declines."""
        self._ask(Calls.answer(execution_id, question_id, value))

    def invoke(
        self,
        agent: str,
        data: Mapping[str, Any],
        *,
        session_id: str | None = None,
        background: bool = False,
        invocation_id: str | None = None,
    ) -> dict[str, Any]:
        """A durable execution: the invocation with its result, or, in the background, with its status."""
        invocation: dict[str, Any] = self._ask(Calls.invoke(agent, data, session_id, background, invocation_id))
        return invocation

    def invocation(self, invocation_id: str) -> dict[str, Any]:
        invocation: dict[str, Any] = self._ask(Calls.invocation(invocation_id))
        return invocation

    def cancel(self, invocation_id: str) -> dict[str, Any]:
        invocation: dict[str, Any] = self._ask(Calls.invocation(invocation_id, "cancel"))
        return invocation

    def follow(self, invocation_id: str, *, after: int = 0) -> Iterator[ServerEvent]:
        """The events of an invocation behind `after`, those to come too."""
        return self._events(Calls.events(invocation_id, after))

    def _ask(self, call: Call) -> Any:
        response = self.http.request(call.method, call.path, json=call.json, headers=call.headers, params=call.params)
        return call.read(checked(response))

    def _events(self, call: Call) -> Iterator[ServerEvent]:
        headers = {**(call.headers or {}), **STREAM}
        with self.http.stream(call.method, call.path, json=call.json, headers=headers, params=call.params) as response:
            if response.is_error:
                response.read()
            parse = EventParser()
            for line in checked(response).iter_lines():
                if (event := parse(line)) is not None:
                    yield checked_event(event)


class AsyncClient:
    """The same calls, to be awaited; streams are asynchronous iterators."""

    def __init__(self, url: str, *, token: str | None = None, **options: Any) -> None:
        self.http = httpx.AsyncClient(base_url=url, **settings(token, options))

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    async def close(self) -> None:
        await self.http.aclose()

    async def execute(
        self,
        agent: str,
        data: Mapping[str, Any],
        *,
        session_id: str | None = None,
        timeout_seconds: float | None = None,
        idempotency_key: str | None = None,
    ) -> Answer:
        answer: Answer = await self._ask(Calls.execute(agent, data, session_id, timeout_seconds, idempotency_key))
        return answer

    def stream(
        self, agent: str, data: Mapping[str, Any], *, session_id: str | None = None
    ) -> AsyncIterator[ServerEvent]:
        return self._events(Calls.execute(agent, data, session_id, None, None))

    async def batch(self, requests: Iterable[tuple[str, Mapping[str, Any]]]) -> list[Answer | ServerError]:
        outcomes: list[Answer | ServerError] = await self._ask(Calls.batch(requests))
        return outcomes

    def session(self, session_id: str | None = None) -> "AsyncSession":
        return AsyncSession(self, session_id or uuid.uuid4().hex)

    async def agents(self) -> list[dict[str, Any]]:
        agents: list[dict[str, Any]] = await self._ask(Calls.agents())
        return agents

    async def feedback(
        self, execution_id: str, value: float, *, comment: str | None = None, correction: Any = None
    ) -> None:
        await self._ask(Calls.feedback(execution_id, value, comment, correction))

    async def answer(self, execution_id: str, question_id: str, value: Any) -> None:
        await self._ask(Calls.answer(execution_id, question_id, value))

    async def invoke(
        self,
        agent: str,
        data: Mapping[str, Any],
        *,
        session_id: str | None = None,
        background: bool = False,
        invocation_id: str | None = None,
    ) -> dict[str, Any]:
        call = Calls.invoke(agent, data, session_id, background, invocation_id)
        invocation: dict[str, Any] = await self._ask(call)
        return invocation

    async def invocation(self, invocation_id: str) -> dict[str, Any]:
        invocation: dict[str, Any] = await self._ask(Calls.invocation(invocation_id))
        return invocation

    async def cancel(self, invocation_id: str) -> dict[str, Any]:
        invocation: dict[str, Any] = await self._ask(Calls.invocation(invocation_id, "cancel"))
        return invocation

    def follow(self, invocation_id: str, *, after: int = 0) -> AsyncIterator[ServerEvent]:
        return self._events(Calls.events(invocation_id, after))

    async def _ask(self, call: Call) -> Any:
        response = await self.http.request(
            call.method, call.path, json=call.json, headers=call.headers, params=call.params
        )
        return call.read(checked(response))

    async def _events(self, call: Call) -> AsyncIterator[ServerEvent]:
        headers = {**(call.headers or {}), **STREAM}
        async with self.http.stream(
            call.method, call.path, json=call.json, headers=headers, params=call.params
        ) as response:
            if response.is_error:
                await response.aread()
            parse = EventParser()
            async for line in checked(response).aiter_lines():
                if (event := parse(line)) is not None:
                    yield checked_event(event)


@dataclass(frozen=True, slots=True)
class Session:
    """One conversation with the agents of a server: they see what was said in it before."""

    client: Client
    id: str

    def execute(self, agent: str, data: Mapping[str, Any], *, timeout_seconds: float | None = None) -> Answer:
        return self.client.execute(agent, data, session_id=self.id, timeout_seconds=timeout_seconds)

    def stream(self, agent: str, data: Mapping[str, Any]) -> Iterator[ServerEvent]:
        return self.client.stream(agent, data, session_id=self.id)


@dataclass(frozen=True, slots=True)
class AsyncSession:
    """The same, to be awaited."""

    client: AsyncClient
    id: str

    async def execute(self, agent: str, data: Mapping[str, Any], *, timeout_seconds: float | None = None) -> Answer:
        return await self.client.execute(agent, data, session_id=self.id, timeout_seconds=timeout_seconds)

    def stream(self, agent: str, data: Mapping[str, Any]) -> AsyncIterator[ServerEvent]:
        return self.client.stream(agent, data, session_id=self.id)


class EventParser:
    """Server-sent events from their lines (HTML living standard, section 9.2.6)."""

    def __init__(self) -> None:
        self._fields: dict[str, str] = {}
        self._data: list[str] = []

    def __call__(self, line: str) -> ServerEvent | None:
        """The event that this line ends, if it ends one."""
        if not line:
            fields, data = self._fields, self._data
            self._fields, self._data = {}, []
            if not data:
                return None
            number = fields.get("id", "")
            content = json.loads("\n".join(data))
            return ServerEvent(fields.get("event", "message"), content, int(number) if number.isdecimal() else None)
        name, _, value = line.partition(":")
        value = value.removeprefix(" ")
        if name == "data":
            self._data.append(value)
        elif name:
            self._fields[name] = value
        return None


def faults_of(problem: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """The fields that the server names as wrong."""
    return [fault for fault in problem.get("errors") or () if isinstance(fault, Mapping)]


def checked(response: httpx.Response) -> httpx.Response:
    """Raises `ServerError` for an answer that is an error."""
    if not response.is_error:
        return response
    try:
        problem = response.json()
    except ValueError:
        problem = None
    raise ServerError(
        response.status_code, problem if isinstance(problem, dict) else {"detail": response.reason_phrase}
    )


def checked_event(event: ServerEvent) -> ServerEvent:
    if event.type != "failed":
        return event
    problem = event.data.get("error", event.data)
    raise ServerError(int(problem.get("status", 500)), problem)


def answer_of(response: httpx.Response) -> Answer:
    return to_answer(response.json())


def to_answer(body: Mapping[str, Any]) -> Answer:
    return Answer(body["agent_name"], body["result"], body.get("confidence"), body.get("metadata", {}))


def outcomes_of(response: httpx.Response) -> Sequence[Answer | ServerError]:
    return [
        to_answer(one["output"]) if one.get("output") else ServerError(int(one["error"]["status"]), one["error"])
        for one in response.json()["results"]
    ]


def given(body: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in body.items() if value is not None}


def texts(headers: Mapping[str, Any]) -> dict[str, str]:
    return {name: str(value) for name, value in headers.items() if value is not None}


def settings(token: str | None, options: Mapping[str, Any]) -> dict[str, Any]:
    headers = {"authorization": f"Bearer {token}"} if token else {}
    return {"timeout": TIMEOUT_SECONDS, **options, "headers": {**headers, **dict(options.get("headers") or {})}}
