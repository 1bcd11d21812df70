"""Data against the models of agents, and their faults as callers read them."""

from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError
from pydantic_core import PydanticSerializationError, to_json

ModelT = TypeVar("ModelT", bound=BaseModel)


def validate(model: type[ModelT], data: Any) -> ModelT:
    """`data`, of JSON or of Python, as `model`. JSON has no datetimes, UUIDs or tuples, so a strict model that refuses
    its strings as Python is asked again as JSON. Raises `ValidationError`."""
    try:
        return model.model_validate(data)
    except ValidationError as error:
        try:
            as_json = to_json(data)
        except (PydanticSerializationError, ValueError):
            raise error from None
    return model.model_validate_json(as_json)


def field_errors(error: ValidationError, *, prefix: str = "") -> list[dict[str, Any]]:
    """Pydantic's faults as `{path, message, type}`; the rejected values stay out of the answer."""
    faults = error.errors(include_url=False, include_context=False, include_input=False)
    return [
        {
            "path": ".".join(str(part) for part in ((prefix, *fault["loc"]) if prefix else fault["loc"])),
            "message": fault["msg"],
            "type": fault["type"],
        }
        for fault in faults[:100]
    ]
