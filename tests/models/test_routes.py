"""Routes: time shared by endpoints, the caller's faults told apart, rules, caches, many prompts, embeddings."""

import asyncio
import time

import pytest
import stamina

from lakemesh.errors import DeadlineExceeded, ModelRefused, ModelUnavailable
from lakemesh.lakehouse.openai_endpoint import retry_after
from lakemesh.models import ChatAnswer
from tests.models.scripted_server import completion, embeddings, error, http, scripted_server, stream
from tests.models.test_faults import text_of
from tests.models.test_models import ASK, Setup, in_scope

pytestmark = pytest.mark.anyio

TOO_LONG = "This model's maximum context length is 8192 tokens."


@pytest.fixture(autouse=True)
def no_waiting_between_retries():
    stamina.set_testing(True, attempts=2)
    yield
    stamina.set_testing(False)


async def test_a_stalled_first_endpoint_leaves_time_for_the_second() -> None:
    async with scripted_server("stall") as bad, scripted_server(completion("right"), stream("right")) as good:
        setup = Setup(bad.base_url, good.base_url, timeout_seconds=30.0)
        assert (await in_scope(setup.client.chat(ASK), seconds=2)).text == "right"
        assert await in_scope(text_of(setup.client.stream(ASK)), seconds=2) == "right"
    assert len(bad.requests) == 2


async def test_a_hedged_request_asks_the_second_and_ends_the_slower_call() -> None:
    async with scripted_server("stall") as bad, scripted_server(completion("right")) as good:
        setup = Setup(bad.base_url, good.base_url, timeout_seconds=30.0, route={"hedge_after_seconds": 0.05})
        assert (await in_scope(setup.client.chat(ASK), seconds=60)).text == "right"
    assert setup.errors == [None, "hedged"]
    assert setup.client.health()["endpoints"] == {"e0": "closed", "e1": "closed"}


async def test_the_slower_endpoint_may_still_answer_first() -> None:
    async with scripted_server("when told") as first, scripted_server("stall") as second:
        setup = Setup(first.base_url, second.base_url, timeout_seconds=30.0, route={"hedge_after_seconds": 0.01})
        asked = asyncio.ensure_future(in_scope(setup.client.chat(ASK), seconds=60))
        await second.asked.wait()
        first.may_answer.set()
        assert (await asked).text == "slow but right"
    assert len(second.requests) == 1


async def test_an_endpoint_that_always_loses_its_share_of_the_time_opens_its_circuit() -> None:
    async with scripted_server("stall") as bad, scripted_server(completion("right")) as good:
        setup = Setup(bad.base_url, good.base_url, timeout_seconds=8.0, breaker_failures=2, breaker_reset_seconds=60.0)
        for _ in range(3):
            assert (await in_scope(setup.client.chat(ASK), seconds=4.2)).text == "right"
        assert setup.client.health()["endpoints"]["e0"] == "open"
    assert setup.errors == [None, "hedged", None, "hedged", None]


async def test_who_leaves_ends_every_call_that_runs() -> None:
    async with scripted_server("stall") as one, scripted_server("stall") as two:
        setup = Setup(one.base_url, two.base_url, timeout_seconds=30.0, route={"hedge_after_seconds": 0.01})
        asked = asyncio.ensure_future(in_scope(setup.client.chat(ASK), seconds=60))
        await two.asked.wait()
        asked.cancel()
        with pytest.raises(asyncio.CancelledError):
            await asked
    assert setup.errors == ["cancelled", "cancelled"]


async def test_a_passed_deadline_is_that_under_uvloop_too() -> None:
    async with scripted_server("stall") as server:
        setup = Setup(server.base_url, timeout_seconds=30.0)
        for _ in range(20):
            with pytest.raises(DeadlineExceeded):
                await in_scope(setup.client.chat(ASK), seconds=0.01)
    assert set(setup.errors) == {"deadline_exceeded"}


@pytest.fixture(params=["asyncio", "uvloop"])
def anyio_backend(request: pytest.FixtureRequest) -> tuple[str, dict]:
    return "asyncio", {"use_uvloop": request.param == "uvloop"}


@pytest.mark.parametrize(
    ("status", "message", "reason"),
    [
        (400, TOO_LONG, "context_length"),
        (413, "too large", "context_length"),
        (400, "blocked: content_filter", "content_filter"),
        (400, "tools[0] has no name", "invalid_request"),
        (422, "no such field", "invalid_request"),
    ],
)
async def test_a_request_every_endpoint_refuses_is_not_told_to_try_again(
    status: int, message: str, reason: str
) -> None:
    async with scripted_server(error(status, message)) as one, scripted_server(error(status, message)) as two:
        setup = Setup(one.base_url, two.base_url)
        with pytest.raises(ModelRefused) as refused:
            await setup.client.chat(ASK)
    assert (refused.value.status, refused.value.reason) == (422, reason)
    assert "try again" not in refused.value.detail
    assert (len(one.requests), len(two.requests)) == (1, 1)


async def test_a_refusal_beside_an_outage_may_be_tried_again() -> None:
    async with scripted_server(error(400, TOO_LONG)) as one, scripted_server(error(500)) as two:
        with pytest.raises(ModelUnavailable, match="try again later"):
            await Setup(one.base_url, two.base_url).client.chat(ASK)


@pytest.mark.parametrize("value", ["inf", "-inf", "nan", "1e400"])
async def test_retry_after_that_is_no_time_is_none(value: str) -> None:
    assert retry_after(value) is None
    async with scripted_server(error(429, retry_after=value)) as server:
        with pytest.raises(ModelUnavailable) as failed:
            await Setup(server.base_url).client.chat(ASK)
    assert failed.value.retry_after_seconds is None


async def test_counts_of_tokens_are_bounded() -> None:
    choice = b'"choices": [{"finish_reason": "stop", "message": {"content": "x"}}]'
    body = b'{%s, "usage": {"prompt_tokens": 1e300, "completion_tokens": -5}}' % choice
    async with scripted_server(http(200, body)) as server:
        answer = await Setup(server.base_url).client.chat(ASK)
    assert (answer.input_tokens, answer.output_tokens) == (2**31 - 1, 0)


async def test_rules_choose_the_route() -> None:
    rules = [{"route": "other", "characters_above": 20}, {"route": "other", "tools": True, "priority": "low"}]
    async with scripted_server(completion("x")) as server:
        setup = Setup(server.base_url, route={"rules": rules})
        await setup.client.chat(ASK)
        await setup.client.chat([{"role": "user", "content": "x" * 21}])
        await setup.client.chat(ASK, tools=[{"type": "function", "function": {"name": "f"}}])
        await setup.client.chat(ASK, tools=[{"type": "function", "function": {"name": "f"}}], priority="low")
    assert [use.route for use in setup.uses] == ["quality", "other", "quality", "other"]


async def test_rules_look_at_time_and_cost() -> None:
    rules = [{"route": "other", "seconds_left_below": 5.0}, {"route": "other", "spent_usd_above": 1.0}]
    async with scripted_server(completion("x")) as server:
        setup = Setup(server.base_url, route={"rules": rules}, input_price=1e6)

        async def twice() -> None:
            await setup.client.chat(ASK)
            await setup.client.chat(ASK)

        await in_scope(twice(), seconds=60)
        await in_scope(setup.client.chat(ASK), seconds=2)
    assert [use.route for use in setup.uses] == ["quality", "other", "other"]


async def test_a_cache_answers_the_same_request_of_the_same_user_only() -> None:
    async with scripted_server(completion("one"), completion("two"), completion("three"), completion("four")) as server:
        setup = Setup(server.base_url, route={"cache": {"lifetime_seconds": 60.0}})

        async def ask(user: str, **arguments: object) -> tuple[str, bool]:
            answer = await in_scope(setup.client.chat(ASK, **arguments), seconds=20, user=user)
            return answer.text, answer.cached

        assert [await ask("ann"), await ask("ann")] == [("one", False), ("one", True)]
        assert await ask("bob") == ("two", False)
        assert await ask("ann", temperature=0.5) == ("three", False)
        assert await ask("ann") == ("one", True)
        assert (await setup.client.chat(ASK)).text == "four"  # outside of an execution there is no user to keep it for
        assert not (await setup.client.chat(ASK)).cached
    assert [(use.cached, use.input_tokens) for use in setup.uses[:2]] == [(False, 7), (True, 0)]


async def test_a_cache_is_bounded_and_outlives_a_change_elsewhere() -> None:
    async with scripted_server(completion("x" * 400)) as server:
        setup = Setup(server.base_url, route={"cache": {"max_bytes": 2_000, "shared": True}})
        for n in range(4):
            await setup.client.chat([{"role": "user", "content": str(n)}])
        assert not (await setup.client.chat([{"role": "user", "content": "0"}])).cached
        (await setup.client.prepare(setup.config.model_copy(update={"reflection_rounds": 1}))).commit()
        assert (await setup.client.chat([{"role": "user", "content": "0"}])).cached


async def test_many_prompts_have_an_outcome_each() -> None:
    def reply(request: dict) -> bytes:
        text = request["messages"][0]["content"]
        return error(400, TOO_LONG) if text == "7" else completion(f"answer {text}")

    async with scripted_server(reply) as server:
        client = Setup(server.base_url, timeout_seconds=20.0).client
        prompts = [[{"role": "user", "content": str(n)}] for n in range(20)]
        outcomes = await client.chat_many(prompts, concurrency=3)
        assert await client.chat_many([]) == []
    assert server.most_running <= 3
    assert isinstance(outcomes[7], ModelRefused)
    answers = [outcome.text for outcome in outcomes if isinstance(outcome, ChatAnswer)]
    assert answers == [f"answer {n}" for n in range(20) if n != 7]


async def test_many_prompts_of_one_caller_do_not_keep_another_out() -> None:
    async with scripted_server("slow") as server:
        client = Setup(server.base_url, max_concurrency=1, timeout_seconds=30.0).client
        prompts = [ASK] * 20
        many = asyncio.ensure_future(in_scope(client.chat_many(prompts, concurrency=20), seconds=60, user="ann"))
        await server.asked.wait()
        await in_scope(client.chat(ASK), seconds=60, user="bob")
        assert len(server.requests) <= 4
        many.cancel()
        with pytest.raises(asyncio.CancelledError):
            await many


async def test_embeddings_carry_their_model_and_their_tokens() -> None:
    async with scripted_server(embeddings) as server:
        setup = Setup(server.base_url, embedding_batch=2, embedding_batch_bytes=1_024)
        embedded = await setup.client.embed(["a", "bb", "ccc", "d" * 2_000, "e"])
    assert embedded.model == "m0"
    assert embedded.vectors == [[1.0], [2.0], [3.0], [2000.0], [1.0]]
    assert [len(request["input"]) for request in server.requests] == [2, 1, 1, 1]
    assert sum(use.input_tokens for use in setup.uses) == 500
    assert {use.model for use in setup.uses} == {"lengths"}


async def test_only_endpoints_of_the_same_model_stand_in_for_each_other() -> None:
    async with scripted_server(error(500)) as bad, scripted_server(embeddings) as good:
        with pytest.raises(ModelUnavailable):
            await Setup(bad.base_url, good.base_url).client.embed(["a"])
        assert not good.requests
        same = Setup(bad.base_url, good.base_url, model="gte")
        assert (await same.client.embed(["a"])).model == "gte"


async def test_a_text_that_is_refused_is_named_and_the_others_are_not_at_fault() -> None:
    def reply(request: dict) -> bytes:
        return error(400, TOO_LONG) if "poison" in request["input"] else embeddings(request)

    texts = [f"text {n}" for n in range(40)]
    texts[5] = texts[33] = "poison"
    async with scripted_server(reply) as server:
        with pytest.raises(ModelRefused) as refused:
            await Setup(server.base_url, embedding_batch=16, timeout_seconds=20.0).client.embed(texts)
        assert refused.value.positions == (5, 33)
        assert refused.value.reason == "context_length"
        assert len(server.requests) < 25


async def test_an_endpoint_that_refuses_everything_is_unavailable() -> None:
    async with scripted_server(error(400, "this model makes no embeddings")) as server:
        with pytest.raises(ModelUnavailable, match="every text"):
            await Setup(server.base_url).client.embed(["a", "b"])
    assert len(server.requests) == 2


async def test_a_route_whose_time_is_up_says_so_at_once() -> None:
    started = time.monotonic()
    async with scripted_server(error(500)) as server:
        with pytest.raises(DeadlineExceeded):
            await in_scope(Setup(server.base_url).client.chat(ASK), seconds=0.0)
    assert time.monotonic() - started < 10
