"""The offline model's instances keep to their schemas."""

from typing import Annotated, Any, Literal, Optional

import jsonschema
import pytest
from annotated_types import Len
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel, Field

from lakemesh.lakehouse.embedded.offline_model import OfflineEndpoint
from lakemesh.lakehouse.embedded.schema_instance import instance
from lakemesh.lakehouse.endpoints import EndpointError

bounds = st.integers(-1_000, 1_000)
scalars = st.one_of(
    st.sampled_from(
        [{"type": "boolean"}, {"type": "null"}, {"const": 7}, {"enum": ["red", "green", 3]}, {}, {"items": True}]
    ),
    st.builds(lambda low, span: {"type": "integer", "minimum": low, "maximum": low + span}, bounds, st.integers(0, 9)),
    st.builds(lambda low: {"type": "integer", "exclusiveMinimum": low}, bounds),
    st.builds(lambda low: {"type": "number", "exclusiveMinimum": low, "maximum": low + 0.5}, bounds),
    st.builds(lambda high: {"type": "number", "exclusiveMaximum": high}, bounds),
    st.builds(lambda step: {"type": "integer", "multipleOf": step, "minimum": 1}, st.integers(1, 9)),
    st.builds(
        lambda low, span: {"type": "string", "minLength": low, "maxLength": low + span},
        st.integers(0, 60),
        st.integers(0, 60),
    ),
    st.sampled_from(["date", "date-time", "email", "uuid"]).map(lambda form: {"type": "string", "format": form}),
)


def nested(inner: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    properties = st.dictionaries(st.text("abc", min_size=1, max_size=3), inner, max_size=4)
    return st.one_of(
        st.builds(lambda items, least: {"type": "array", "items": items, "minItems": least}, inner, st.integers(0, 3)),
        st.builds(lambda items: {"type": "array", "items": items, "maxItems": 0}, inner),
        st.builds(
            lambda first: {"type": "array", "prefixItems": first, "minItems": len(first)}, st.lists(inner, min_size=1)
        ),
        properties.map(lambda named: {"type": "object", "properties": named, "required": sorted(named)}),
        properties.map(lambda named: {"properties": named, "additionalProperties": False}),
        st.lists(inner, min_size=1, max_size=3).map(lambda choices: {"anyOf": [{"type": "null"}, *choices]}),
        inner.map(lambda schema: {"allOf": [schema]}),
    )


@given(st.recursive(scalars, nested, max_leaves=8), st.text(max_size=80))
def test_any_instance_is_valid(schema: dict, text: str) -> None:
    jsonschema.validate(instance(schema, text), schema)


class Node(BaseModel):
    name: str
    left: Optional["Node"]
    children: list["Node"]


class Cat(BaseModel):
    kind: Literal["cat"]
    lives: int = Field(ge=1, le=9)


class Dog(BaseModel):
    kind: Literal["dog"]


class Everything(BaseModel):
    node: Node
    pet: Cat | Dog = Field(discriminator="kind")
    pair: tuple[int, str]
    pets: Annotated[list[Cat | Dog], Len(2, 4)]
    scores: dict[str, float]
    odd: int = Field(gt=2, multiple_of=3)


def test_models_that_contain_themselves_come_to_an_end() -> None:
    Everything.model_validate(instance(Everything.model_json_schema(), "a cat"))


@pytest.mark.anyio
@pytest.mark.parametrize(
    "schema",
    [
        {"$ref": "#"}, {"$ref": "#/nowhere"}, {"$ref": "https://example.com/schema"}, {"type": 3}, {"anyOf": "x"},
        "text", {"type": "array", "minItems": 10**9},
        {"type": "object", "properties": {"a": {"$ref": "#"}}, "required": ["a"]},
        {"type": "integer", "minimum": "low"},
        {"type": "string", "minLength": 10**12}, {"allOf": [{"$ref": "#"}]},
    ],
)  # fmt: skip
async def test_what_is_no_schema_is_refused(schema: Any) -> None:
    request = {
        "messages": [{"role": "user", "content": "use paint"}],
        "tools": [{"type": "function", "function": {"name": "paint", "parameters": schema}}],
    }
    with pytest.raises(EndpointError) as refused:
        await OfflineEndpoint("any").chat(request, timeout_seconds=1)
    assert (refused.value.http_status, refused.value.retryable) == (400, False)
