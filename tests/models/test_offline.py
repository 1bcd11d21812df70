"""The offline model keeps the wire contract."""

import json
from typing import Literal

import jsonschema
import numpy as np
import pytest
from pydantic import BaseModel, Field

from lakemesh.lakehouse.embedded.offline_model import OfflineEndpoint
from lakemesh.lakehouse.endpoints import EndpointError

pytestmark = pytest.mark.anyio

MODEL = OfflineEndpoint("any-name")
TOOL = {
    "type": "function",
    "function": {
        "name": "find_orders",
        "parameters": {"type": "object", "properties": {"n": {"type": "integer", "minimum": 3}}, "required": ["n"]},
    },
}


class Inner(BaseModel):
    kind: Literal["red", "green"]
    amount: float = Field(gt=0, le=5)


class Outer(BaseModel):
    title: str = Field(min_length=3, max_length=40)
    inner: Inner
    items: list[Inner] = Field(min_length=2)
    count: int = Field(ge=2)
    note: str | None
    flag: bool


def request(text: str, **more: object) -> dict[str, object]:
    return {"messages": [{"role": "user", "content": text}], **more}


async def test_names_itself_and_is_deterministic() -> None:
    first = await MODEL.chat(request("tell me"), timeout_seconds=1)
    assert first == await MODEL.chat(request("tell me"), timeout_seconds=1)
    assert first["model"] == "offline"
    assert "offline" in first["choices"][0]["message"]["content"]


@pytest.mark.parametrize("kind", ["json_schema", "json_object"])
async def test_a_structured_answer_is_none_of_its_business(kind: str) -> None:
    response_format = {"type": kind, "json_schema": {"schema": Outer.model_json_schema()}}
    with pytest.raises(EndpointError, match="no model") as refused:
        await MODEL.chat(request("it is green", response_format=response_format), timeout_seconds=1)
    assert not refused.value.retryable


async def test_arguments_of_tools_keep_the_schema() -> None:
    schema = Outer.model_json_schema()
    tool = {"type": "function", "function": {"name": "paint", "parameters": schema}}
    answer = await MODEL.chat(request("paint it green", tools=[tool]), timeout_seconds=1)
    arguments = json.loads(answer["choices"][0]["message"]["tool_calls"][0]["function"]["arguments"])
    jsonschema.validate(arguments, schema)
    assert Outer.model_validate(arguments).inner.kind == "green"


@pytest.mark.parametrize(
    ("text", "choice", "called"),
    [
        ("hello", "auto", False),
        ("use find_orders", "auto", True),
        ("hello", {"type": "function", "function": {"name": "find_orders"}}, True),
        ("hello", "required", True),
        ("use find_orders", "none", False),
    ],
)
async def test_tools(text: str, choice: object, called: bool) -> None:
    answer = await MODEL.chat(request(text, tools=[TOOL], tool_choice=choice), timeout_seconds=1)
    calls = answer["choices"][0]["message"].get("tool_calls")
    assert bool(calls) == called
    if calls:
        assert json.loads(calls[0]["function"]["arguments"]) == {"n": 3}
        assert answer["choices"][0]["finish_reason"] == "tool_calls"


async def test_stream_is_the_answer_in_pieces() -> None:
    whole = await MODEL.chat(request("some words to say"), timeout_seconds=1)
    chunks = [chunk async for chunk in MODEL.stream_chat(request("some words to say"), timeout_seconds=1)]
    text = "".join(chunk["choices"][0]["delta"].get("content", "") for chunk in chunks)
    assert text == whole["choices"][0]["message"]["content"]
    assert len(chunks) > 3
    assert chunks[-1]["choices"][0]["finish_reason"] == "stop"


async def test_embeddings_put_like_beside_like() -> None:
    texts = ["a stolen credit card", "the credit card was stolen", "rain in the mountains"]
    a, b, c = (np.array(vector) for vector in (await MODEL.embed(texts, timeout_seconds=1)).vectors)
    assert a.shape == (384,)
    assert np.linalg.norm(a) == pytest.approx(1.0)
    assert a @ b > 0.4 > 0.1 > a @ c
