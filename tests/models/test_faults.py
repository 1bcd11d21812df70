"""Whatever a server does, a model call ends in a right answer or a designed error, inside its deadline."""

import asyncio
import time
from collections.abc import AsyncGenerator, Iterator
from contextlib import aclosing
from email.utils import formatdate

import pytest
import stamina
from pydantic import BaseModel

from lakemesh.errors import DeadlineExceeded, ModelUnavailable
from lakemesh.lakehouse.openai_endpoint import retry_after
from tests.models.scripted_server import completion, error, http, scripted_server, stream
from tests.models.test_models import ASK, Setup, in_scope

pytestmark = pytest.mark.anyio

FAULTS: dict[str, bytes | str] = {
    "429 with Retry-After": error(429, retry_after="1"),
    "429 with a date": error(429, retry_after=formatdate(time.time() + 3600, usegmt=True)),
    "429 with nonsense": error(429, retry_after="soon"),
    "500": error(500),
    "stall": "stall",
    "closed without a word": b"",
    "reset": "reset",
    "cut in the body": http(200, b'{"choices": []}')[:-4],
    "broken JSON": http(200, b'{"choices": [{"mess'),
    "another shape": http(200, b'{"choices": [{"message": "text"}]}'),
    "not an object": http(200, b'"words"'),
    "no choices": http(200, b'{"choices": []}'),
    "HTML": http(200, b"<html>login</html>", content_type="text/html"),
    "nonsense usage": http(200, b'{"choices": [{"message": {"content": "x"}}], "usage": {"prompt_tokens": "many"}}'),
    "not HTTP": b"SSH-2.0-OpenSSH_9.6\r\n",
    "401": error(401),
    "404": error(404),
}
STREAM_FAULTS = FAULTS | {
    "cut before a piece": stream(cut=True),
    "broken chunk": http(200, b"data: {broken\n\n", content_type="text/event-stream"),
    "chunks of another shape": http(200, b'data: {"choices": ["x"]}\n\n', content_type="text/event-stream"),
    "error as a chunk": http(200, b'data: {"error": {"message": "no"}}\n\n', content_type="text/event-stream"),
    "only the end": http(200, b"data: [DONE]\n\n", content_type="text/event-stream"),
}


@pytest.fixture(autouse=True)
def no_waiting_between_retries() -> Iterator[None]:
    stamina.set_testing(True, attempts=2)
    yield
    stamina.set_testing(False)


async def text_of(chunks: AsyncGenerator) -> str:
    return "".join([chunk.text async for chunk in chunks])


@pytest.mark.parametrize("fault", FAULTS)
async def test_the_next_endpoint_answers(fault: str) -> None:
    async with scripted_server(FAULTS[fault]) as bad, scripted_server(completion("right")) as good:
        setup = Setup(bad.base_url, good.base_url, timeout_seconds=0.3)
        answer = await in_scope(setup.client.chat(ASK), seconds=20)
    assert (answer.text, answer.endpoint) == ("right", "e1")
    assert setup.errors[0] is not None
    assert setup.errors[-1] is None


@pytest.mark.parametrize("fault", STREAM_FAULTS)
async def test_the_next_endpoint_streams(fault: str) -> None:
    async with scripted_server(STREAM_FAULTS[fault]) as bad, scripted_server(stream("ri", "ght")) as good:
        setup = Setup(bad.base_url, good.base_url, timeout_seconds=0.3)
        assert await in_scope(text_of(setup.client.stream(ASK)), seconds=20) == "right"


@pytest.mark.parametrize("fault", FAULTS)
async def test_alone_it_is_a_designed_error(fault: str) -> None:
    async with scripted_server(FAULTS[fault]) as bad:
        setup = Setup(bad.base_url, timeout_seconds=0.3)
        with pytest.raises(ModelUnavailable):
            await in_scope(setup.client.chat(ASK), seconds=20)
        with pytest.raises(ModelUnavailable):
            await in_scope(text_of(setup.client.stream(ASK)), seconds=20)


class Verdict(BaseModel):
    decision: str


@pytest.mark.parametrize("answer", ["", "no JSON", "[" * 100_000, '{"decision": 3}', '{"decision": "a"', "null"])
async def test_answers_of_the_wrong_schema_end_in_a_designed_error(answer: str) -> None:
    async with scripted_server(completion(answer)) as server:
        setup = Setup(server.base_url, timeout_seconds=5.0)
        with pytest.raises(ModelUnavailable, match="Verdict"):
            await setup.client.structured(ASK, output=Verdict)
    assert all(len(str(request)) < 50_000 for request in server.requests)


async def test_a_stream_of_small_pieces_does_not_outlive_the_deadline() -> None:
    async with scripted_server("drip") as server:
        setup = Setup(server.base_url, timeout_seconds=30.0)
        with pytest.raises(DeadlineExceeded):
            await asyncio.wait_for(in_scope(text_of(setup.client.stream(ASK)), seconds=0.4), timeout=10)
    assert setup.errors == ["deadline_exceeded"]


async def test_pauses_between_tries_do_not_outlive_the_deadline() -> None:
    stamina.set_testing(False)
    async with scripted_server(error(500)) as server:
        setup = Setup(server.base_url, attempts=10)
        started = time.monotonic()
        with pytest.raises(DeadlineExceeded):
            await in_scope(setup.client.chat(ASK), seconds=0.5)
    # Ten tries would take a minute of pauses.
    assert time.monotonic() - started < 10


async def test_retry_after_is_told_to_the_caller() -> None:
    async with (
        scripted_server(error(429, retry_after="40")) as one,
        scripted_server(error(503, retry_after="9")) as two,
    ):
        setup = Setup(one.base_url, two.base_url)
        with pytest.raises(ModelUnavailable) as failed:
            await in_scope(setup.client.chat(ASK), seconds=5)
    assert failed.value.retry_after_seconds == 9


async def test_a_long_retry_after_sends_to_the_next_endpoint_although_there_is_time() -> None:
    async with scripted_server(error(429, retry_after="30")) as one, scripted_server(completion("other")) as two:
        assert (await in_scope(Setup(one.base_url, two.base_url).client.chat(ASK), seconds=120)).text == "other"
    assert len(one.requests) == 1


async def test_hurried_callers_do_not_open_the_breaker() -> None:
    async with scripted_server("stall") as server:
        setup = Setup(server.base_url, timeout_seconds=30.0, breaker_failures=1)
        for _ in range(2):
            with pytest.raises(DeadlineExceeded):
                await in_scope(setup.client.chat(ASK), seconds=0.1)
        assert setup.client.health()["endpoints"] == {"e0": "closed"}


async def test_being_told_to_slow_down_does_not_open_the_breaker() -> None:
    async with scripted_server(error(429, retry_after="60")) as server:
        setup = Setup(server.base_url, timeout_seconds=30.0, breaker_failures=1)
        for _ in range(2):
            with pytest.raises(ModelUnavailable):
                await in_scope(setup.client.chat(ASK), seconds=30)
        assert len(server.requests) == 2
        assert setup.client.health()["endpoints"] == {"e0": "closed"}


async def test_stalls_open_the_breaker_and_the_next_caller_does_not_wait() -> None:
    async with scripted_server("stall") as bad, scripted_server(completion("right")) as good:
        setup = Setup(bad.base_url, good.base_url, timeout_seconds=1.0, breaker_failures=2, breaker_reset_seconds=60.0)
        assert (await setup.client.chat(ASK)).text == "right"
        assert setup.client.health()["endpoints"] == {"e0": "open", "e1": "closed"}
        assert (await setup.client.chat(ASK)).text == "right"
    assert setup.errors == ["unreachable", "unreachable", None, None]


async def test_half_open_lets_one_call_through() -> None:
    async with scripted_server(error(500), "slow") as bad, scripted_server(completion("right")) as good:
        setup = Setup(bad.base_url, good.base_url, timeout_seconds=5.0, breaker_failures=1, breaker_reset_seconds=0.05)
        assert (await setup.client.chat(ASK)).text == "right"
        await asyncio.sleep(0.1)  # past breaker_reset_seconds: the breaker looks at the clock
        answers = await asyncio.gather(*(setup.client.chat(ASK) for _ in range(5)))
    assert sorted(answer.endpoint for answer in answers) == ["e0", "e1", "e1", "e1", "e1"]


async def test_a_full_endpoint_sends_to_the_next() -> None:
    async with scripted_server("drip") as busy, scripted_server(completion("right")) as good:
        setup = Setup(busy.base_url, good.base_url, timeout_seconds=0.3, max_concurrency=1)
        async with aclosing(setup.client.stream(ASK)) as chunks:
            await anext(chunks)
            assert (await setup.client.chat(ASK)).endpoint == "e1"
    assert len(busy.requests) == 1


async def test_leaving_a_stream_early_frees_its_slot() -> None:
    async with scripted_server("drip") as server:
        setup = Setup(server.base_url, timeout_seconds=5.0, max_concurrency=1)
        for _ in range(2):
            async with aclosing(setup.client.stream(ASK)) as chunks:
                assert (await anext(chunks)).text
        assert setup.errors == ["cancelled", "cancelled"]
        assert setup.client.health()["endpoints"] == {"e0": "closed"}


async def test_cancelling_a_call_frees_its_slot() -> None:
    async with scripted_server("stall", completion("right")) as server:
        setup = Setup(server.base_url, timeout_seconds=5.0, max_concurrency=1)
        asked = asyncio.ensure_future(setup.client.chat(ASK))
        await server.asked.wait()
        asked.cancel()
        with pytest.raises(asyncio.CancelledError):
            await asked
        assert (await setup.client.chat(ASK)).text == "right"
        assert setup.errors == ["cancelled", None]


async def test_content_in_parts_leaves_thoughts_out() -> None:
    parts = [
        {"type": "reasoning", "summary": [{"type": "summary_text", "text": "hm"}]},
        {"type": "text", "text": "the answer"},
    ]
    async with scripted_server(completion(parts)) as server:
        assert (await Setup(server.base_url).client.chat(ASK)).text == "the answer"


@pytest.mark.parametrize(
    ("header", "seconds"), [(None, None), ("3", 3.0), ("-3", 0.0), ("soon", None), (formatdate(0, usegmt=True), 0.0)]
)
def test_retry_after_header(header: str | None, seconds: float | None) -> None:
    assert retry_after(header) == seconds
