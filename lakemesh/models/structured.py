"""Answers of a given shape, with the faults given back to the model until they are mended."""

from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError

from lakemesh.errors import ModelUnavailable
from lakemesh.models.answers import Message

ModelT = TypeVar("ModelT", bound=BaseModel)
Ask = Callable[[Sequence[Message], Mapping[str, Any]], Awaitable[str]]

MAX_FAULTS = 10
MAX_RETURNED_CHARACTERS = 8_000
CORRECT_IT = "That does not fit the schema:\n{faults}\nAnswer with the whole corrected JSON."


async def reflect(messages: Sequence[Message], output: type[ModelT], ask: Ask, *, rounds: int) -> ModelT:
    """Ask for JSON of `output`'s schema; at a fault, ask again with the answer and its faults, `rounds` times at
    the most. Raises `ModelUnavailable` when the last answer does not fit either."""
    response_format = json_schema_format(output)
    conversation = list(messages)
    for _ in range(rounds + 1):
        text = await ask(conversation, response_format)
        try:
            return output.model_validate_json(unfenced(text))
        except ValidationError as error:
            conversation += [
                {"role": "assistant", "content": text[:MAX_RETURNED_CHARACTERS]},
                {"role": "user", "content": CORRECT_IT.format(faults=describe_faults(error))},
            ]
    raise ModelUnavailable(f"The model did not keep to the schema of {output.__name__} in {rounds + 1} answers.")


def json_schema_format(output: type[BaseModel]) -> dict[str, Any]:
    """OpenAI's `response_format` for a Pydantic model. Strict, so that the endpoint itself keeps the answer to the
    schema, where the schema is one that strict mode takes."""
    schema = output.model_json_schema()
    json_schema = {"name": output.__name__, "schema": schema, "strict": can_be_strict(schema)}
    return {"type": "json_schema", "json_schema": json_schema}


def can_be_strict(schema: Any) -> bool:
    """Whether every object names all its properties as required and allows no others (OpenAI, "Structured outputs",
    supported schemas); an endpoint refuses any other in strict mode. A Pydantic model is like that when it forbids
    extra fields and none has a default."""
    if isinstance(schema, list):
        return all(can_be_strict(item) for item in schema)
    if not isinstance(schema, dict):
        return True
    closed = schema.get("additionalProperties") is False
    complete = set(schema.get("required", ())) == set(schema.get("properties", ()))
    return (schema.get("type") != "object" or (closed and complete)) and all(map(can_be_strict, schema.values()))


def unfenced(text: str) -> str:
    """The JSON of a text that models like to wrap into a Markdown fence."""
    stripped = text.strip()
    if not stripped.startswith("```"):
        return stripped
    return stripped.removeprefix("```json").removeprefix("```").removesuffix("```").strip()


def describe_faults(error: ValidationError) -> str:
    faults = error.errors(include_url=False, include_context=False, include_input=False)[:MAX_FAULTS]
    return "\n".join(
        f"- {'.'.join(str(part) for part in fault['loc']) or 'answer'}: {fault['msg']}" for fault in faults
    )
