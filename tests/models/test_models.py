"""The model client against a server over HTTP that fails in every way there is."""

import asyncio
import json
import subprocess
import sys
from collections.abc import Sequence

import pytest
import stamina
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import SpanKind
from pydantic import BaseModel, ConfigDict, Field

from lakemesh.config.models import EndpointConfig, ModelsConfig, RouteConfig
from lakemesh.deadline import Deadline
from lakemesh.errors import DeadlineExceeded, ModelUnavailable
from lakemesh.lakehouse.embedded.endpoints import LocalEndpoints
from lakemesh.models import Embedded, ModelClient
from lakemesh.models.structured import json_schema_format
from lakemesh.schemas import Identity
from lakemesh.scope import ExecutionScope, ModelUse, execution_scope
from tests.models.scripted_server import completion, error, http, scripted_server, stream

pytestmark = pytest.mark.anyio

FIND = {"type": "function", "function": {"name": "find"}}
ASK = [{"role": "user", "content": "What now?"}]


class Plan(BaseModel):
    steps: list[str] = Field(min_length=1)
    risk: float = Field(ge=0, le=1)


class Setup:
    """A client over the given servers, in the order of one route, and what it reported."""

    def __init__(self, *base_urls: str, attempts: int = 3, route: dict | None = None, **endpoint: object) -> None:
        self.exporter = InMemorySpanExporter()
        provider = TracerProvider(shutdown_on_exit=False)
        provider.add_span_processor(SimpleSpanProcessor(self.exporter))
        self.uses: list[ModelUse] = []
        endpoints = {
            f"e{n}": EndpointConfig(base_url=url, **({"model": f"m{n}", "timeout_seconds": 0.5} | endpoint))
            for n, url in enumerate(base_urls)
        }
        routes = dict.fromkeys(
            ("quality", "embeddings", "other"),
            RouteConfig(endpoints=list(endpoints), attempts=attempts),
        )
        if route:
            routes["quality"] = RouteConfig(endpoints=list(endpoints), attempts=attempts, **route)
        self.config = ModelsConfig(endpoints=endpoints, routes=routes)
        self.client = ModelClient(
            self.config, endpoints=LocalEndpoints(), tracer=provider.get_tracer("test"), on_use=self.uses.append
        )

    @property
    def errors(self) -> Sequence[str | None]:
        return [use.error_code for use in self.uses]


@pytest.fixture(autouse=True)
def no_waiting_between_retries():
    stamina.set_testing(True, attempts=3)
    yield
    stamina.set_testing(False)


async def test_answer_usage_span_and_row() -> None:
    async with scripted_server(completion("this")) as server:
        setup = Setup(server.base_url, input_price=2.0, output_price=4.0)
        answer = await setup.client.chat(ASK, temperature=0.5)
    assert (answer.text, answer.model, answer.endpoint) == ("this", "scripted-model", "e0")
    assert server.requests[0] == {"messages": ASK, "model": "m0", "temperature": 0.5}
    (use,) = setup.uses
    assert (use.input_tokens, use.output_tokens, use.cost_usd) == (7, 3, pytest.approx(26e-6))
    (span,) = setup.exporter.get_finished_spans()
    assert span.name == "chat m0"
    assert span.kind is SpanKind.CLIENT
    assert dict(span.attributes) == {
        "gen_ai.operation.name": "chat",
        "gen_ai.provider.name": "openai",
        "gen_ai.request.model": "m0",
        "gen_ai.request.temperature": 0.5,
        "gen_ai.response.id": "c",
        "gen_ai.response.model": "scripted-model",
        "gen_ai.response.finish_reasons": ("stop",),
        "gen_ai.usage.input_tokens": 7,
        "gen_ai.usage.output_tokens": 3,
        "lakemesh.endpoint": "e0",
        "server.address": "127.0.0.1",
    }


@pytest.mark.parametrize(
    "fault",
    [error(500), error(503), error(429, retry_after="0"), http(200, b'{"broken'), http(200, b"[]"), b"", "stall",
     http(200, b'{"choices": []}'), http(200, b'{"choices": [{"message": null}]}')],
)  # fmt: skip
async def test_fault_that_passes_is_retried(fault: bytes | str) -> None:
    async with scripted_server(fault, completion("right")) as server:
        setup = Setup(server.base_url)
        assert (await setup.client.chat(ASK)).text == "right"
    assert len(server.requests) == 2
    assert setup.errors[0] is not None
    assert setup.errors[1] is None


async def test_request_the_endpoint_refuses_is_not_repeated() -> None:
    async with scripted_server(error(400)) as bad, scripted_server(completion("from the second")) as good:
        setup = Setup(bad.base_url, good.base_url)
        assert (await setup.client.chat(ASK)).text == "from the second"
    assert len(bad.requests) == 1


async def test_all_endpoints_failing_is_a_designed_error() -> None:
    async with scripted_server(error(500)) as one, scripted_server(error(503)) as two:
        setup = Setup(one.base_url, two.base_url)
        with pytest.raises(ModelUnavailable, match=r"e0.*500.*e1.*503"):
            await setup.client.chat(ASK)


async def test_retry_after_beyond_the_deadline_is_not_waited_for() -> None:
    async with scripted_server(error(429, retry_after="30")) as one, scripted_server(completion("other")) as two:
        assert (await in_scope(Setup(one.base_url, two.base_url).client.chat(ASK), seconds=5)).text == "other"
    assert len(one.requests) == 1


async def test_deadline_bounds_everything() -> None:
    async with scripted_server("stall") as server:
        setup = Setup(server.base_url, timeout_seconds=30.0)
        with pytest.raises(DeadlineExceeded):
            await asyncio.wait_for(in_scope(setup.client.chat(ASK), seconds=0.3), timeout=10)


async def in_scope(work, *, seconds: float, user: str = "u"):
    scope = ExecutionScope(
        execution_id="x", agent_name="a", identity=Identity(user=user), deadline=Deadline.after(seconds)
    )
    token = execution_scope.set(scope)
    try:
        return await work
    finally:
        execution_scope.reset(token)


async def test_breaker_opens_and_tries_again_later() -> None:
    async with scripted_server(*[error(500)] * 3, completion("well again")) as server:
        setup = Setup(server.base_url, attempts=1, breaker_failures=3, breaker_reset_seconds=0.2)
        stamina.set_testing(True, attempts=1)
        for _ in range(5):
            with pytest.raises(ModelUnavailable):
                await setup.client.chat(ASK)
        assert len(server.requests) == 3
        assert setup.client.health()["endpoints"] == {"e0": "open"}
        assert "e0" in setup.client.health()["degraded"]
        await asyncio.sleep(0.25)  # past breaker_reset_seconds: the breaker looks at the clock
        assert setup.client.health()["endpoints"] == {"e0": "half_open"}
        assert (await setup.client.chat(ASK)).text == "well again"
        assert setup.client.health()["degraded"] is None


async def test_concurrency_stays_within_its_limit() -> None:
    async with scripted_server("slow") as server:
        setup = Setup(server.base_url, max_concurrency=3, timeout_seconds=10.0)
        await asyncio.gather(*(setup.client.chat(ASK) for _ in range(12)))
    assert server.most_running == 3


async def test_stream() -> None:
    async with scripted_server(stream("one ", "two")) as server:
        setup = Setup(server.base_url)
        chunks = [chunk async for chunk in setup.client.stream(ASK)]
    assert "".join(chunk.text for chunk in chunks) == "one two"
    assert chunks[-1].finish_reason == "stop"
    assert server.requests[0]["stream"] is True


async def test_stream_falls_back_before_its_first_piece_only() -> None:
    async with scripted_server(error(500)) as one, scripted_server(stream("fine")) as two:
        setup = Setup(one.base_url, two.base_url)
        assert [chunk.text async for chunk in setup.client.stream(ASK)] == ["fine", ""]
    async with scripted_server(stream("half", cut=True)) as one, scripted_server(stream("other")) as two:
        setup = Setup(one.base_url, two.base_url)
        chunks = setup.client.stream(ASK)
        assert (await anext(chunks)).text == "half"
        with pytest.raises(ModelUnavailable):
            await anext(chunks)
    assert not two.requests


async def test_tool_calls_are_read_and_broken_arguments_are_kept_raw() -> None:
    calls = [
        {"id": "1", "type": "function", "function": {"name": "find", "arguments": '{"x": 1}'}},
        {"id": "2", "type": "function", "function": {"name": "find", "arguments": '{"x": '}},
    ]
    async with scripted_server(completion(None, tool_calls=calls)) as server:
        answer = await Setup(server.base_url).client.chat(
            ASK, tools=[{"type": "function", "function": {"name": "find"}}]
        )
    assert [(call.name, call.arguments, call.raw) for call in answer.tool_calls] == [
        ("find", {"x": 1}, '{"x": 1}'),
        ("find", None, '{"x": '),
    ]


async def test_structured_output_is_mended_by_reflection() -> None:
    script = (
        completion("no json"),
        completion('{"steps": [], "risk": 3}'),
        completion('```json\n{"steps": ["a"], "risk": 0.5}\n```'),
    )
    async with scripted_server(*script) as server:
        plan = await Setup(server.base_url).client.structured(ASK, output=Plan)
    assert plan == Plan(steps=["a"], risk=0.5)
    assert server.requests[0]["response_format"]["json_schema"]["name"] == "Plan"
    correction = server.requests[2]["messages"][-1]["content"]
    assert "steps" in correction
    assert "risk" in correction


class Closed(BaseModel):
    model_config = ConfigDict(extra="forbid")
    answer: str


class Open(BaseModel):
    answer: str = "none"
    plan: Plan


@pytest.mark.parametrize(("output", "strict"), [(Closed, True), (Open, False)])
def test_strict_mode_is_asked_for_where_it_can_be(output: type[BaseModel], strict: bool) -> None:
    assert json_schema_format(output)["json_schema"]["strict"] is strict


async def test_structured_output_that_never_fits_is_a_designed_error() -> None:
    async with scripted_server(completion('{"steps": []}')) as server:
        with pytest.raises(ModelUnavailable, match="Plan"):
            await Setup(server.base_url).client.structured(ASK, output=Plan)
    assert len(server.requests) == 3


async def test_embeddings_come_in_the_order_of_the_texts() -> None:
    data = [{"object": "embedding", "index": 1 - n, "embedding": [2.0 - n]} for n in range(2)]
    body = {"object": "list", "model": "m", "usage": {"prompt_tokens": 1, "total_tokens": 1}, "data": data}
    async with scripted_server(http(200, json.dumps(body).encode())) as server:
        assert await Setup(server.base_url).client.embed(["a", "b"]) == Embedded(vectors=[[1.0], [2.0]], model="m0")


async def test_configuration_changes_keep_what_did_not_change() -> None:
    async with scripted_server(*[error(500)] * 3) as server:
        setup = Setup(server.base_url, breaker_failures=1, breaker_reset_seconds=60.0)
        with pytest.raises(ModelUnavailable):
            await setup.client.chat(ASK)
        (await setup.client.prepare(setup.config)).commit()
        assert setup.client.health()["endpoints"] == {"e0": "open"}
        fresh = setup.config.endpoints["e0"].model_copy(update={"max_concurrency": 2})
        (await setup.client.prepare(setup.config.model_copy(update={"endpoints": {"e0": fresh}}))).commit()
        assert setup.client.health()["endpoints"] == {"e0": "closed"}


async def test_unknown_route_names_those_there_are() -> None:
    with pytest.raises(ModelUnavailable, match="quality"):
        await Setup("http://127.0.0.1:1/v1").client.chat(ASK, route="nowhere")


def test_importing_the_rooms_imports_no_sdk() -> None:
    program = "import sys, lakemesh.models, lakemesh.prompts; print([m for m in sys.argv[1:] if m in sys.modules])"
    heavy = ["openai", "httpx2", "jinja2", "stamina", "numpy", "opentelemetry.sdk"]
    assert subprocess.run([sys.executable, "-c", program, *heavy], capture_output=True, text=True).stdout == "[]\n"
