"""What an action takes, said in configuration by JSON Schema: each parameter is one text, number or yes-or-no."""

from collections.abc import Mapping
from typing import Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, create_model, model_validator

PYTHON_TYPES: Mapping[str, type] = {"string": str, "integer": int, "number": float, "boolean": bool}
RESERVED = frozenset({"run_token", "wait_seconds"})
NAME = r"^[A-Za-z_][A-Za-z0-9_]{0,63}$"


class Parameter(BaseModel):
    """One parameter, in words of JSON Schema. One without a default is required."""

    model_config = ConfigDict(extra="forbid")

    type: Literal["string", "integer", "number", "boolean"] = "string"
    description: str | None = None
    enum: list[str | int | float] | None = Field(default=None, min_length=1)
    pattern: str | None = Field(default=None, description="of the whole text")
    format: Literal["date"] | None = None
    max_length: int = Field(default=1_000, ge=1, alias="maxLength")
    minimum: float | None = None
    maximum: float | None = None
    default: str | int | float | bool | None = None

    @model_validator(mode="after")
    def _fits_together(self) -> Self:
        if self.type != "string" and (self.pattern or self.format):
            raise ValueError("pattern and format are for strings")
        if self.type not in ("integer", "number") and (self.minimum is not None or self.maximum is not None):
            raise ValueError("minimum and maximum are for numbers")
        return self

    @property
    def field(self) -> tuple[Any, Any]:
        """As Pydantic takes it."""
        kind: Any = Literal[tuple(self.enum)] if self.enum else PYTHON_TYPES[self.type]
        limits: dict[str, Any] = {"ge": self.minimum, "le": self.maximum}
        if self.type == "string" and not self.enum:
            limits = {"max_length": self.max_length, "pattern": self._pattern}
        told = {name: value for name, value in limits.items() if value is not None}
        default = ... if self.default is None else self.default
        return kind, Field(default, description=self.description, **told)

    @property
    def _pattern(self) -> str | None:
        if self.format == "date":
            return r"^\d{4}-(0[1-9]|1[0-2])-(0[1-9]|[12]\d|3[01])$"
        return f"^(?:{self.pattern})$" if self.pattern else None


class ActionInput(BaseModel):
    """What every action takes besides its parameters."""

    model_config = ConfigDict(extra="forbid")

    run_token: str | None = Field(
        default=None, max_length=200, description="the same token with the same parameters never runs it again"
    )
    wait_seconds: float | None = Field(default=None, ge=0, description="how long the end is waited for")


def input_of(name: str, parameters: Mapping[str, Parameter]) -> type[ActionInput]:
    """The input of an action that takes these parameters."""
    fields: dict[str, Any] = {key: one.field for key, one in parameters.items()}
    return create_model(f"{name}_arguments", __base__=ActionInput, **fields)


def given(data: ActionInput) -> dict[str, str]:
    """The parameters' values as jobs take them: texts."""
    values = data.model_dump(exclude=set(RESERVED))
    return {name: str(value).lower() if isinstance(value, bool) else str(value) for name, value in values.items()}
