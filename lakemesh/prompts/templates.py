"""Prompt files: front matter and a Jinja2 template, rendered in a sandbox."""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from lakemesh.errors import InvalidRequest

if TYPE_CHECKING:
    from jinja2 import Template
    from jinja2.sandbox import SandboxedEnvironment

FILE_NAME = re.compile(r"(?P<name>[a-z][a-z0-9_]{0,63})_v(?P<version>[1-9][0-9]{0,8})\.(?:txt|jinja)")
FRONT_MATTER = re.compile(r"\A---\n(?P<matter>.*?)^---\n", re.DOTALL | re.MULTILINE)
MAX_TEMPLATE_BYTES = 256 * 1024
MAX_RENDERED_CHARACTERS = 1_000_000


class FrontMatter(BaseModel):
    """What a prompt may say of itself, between two lines of `---`."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    description: str = ""
    route: str | None = None
    temperature: float | None = Field(default=None, ge=0, le=2)
    output_schema: dict[str, Any] | None = Field(default=None, alias="schema")


@dataclass(frozen=True, slots=True, kw_only=True)
class Prompt:
    """One version of one prompt. `variables` are the names its template needs."""

    name: str
    version: int
    source: str
    matter: FrontMatter
    template: "Template" = field(repr=False)
    variables: frozenset[str] = frozenset()


def parse_file_name(file_name: str) -> tuple[str, int] | None:
    """Name and version of `<name>_v<N>.txt` or `.jinja`; None for other files."""
    match = FILE_NAME.fullmatch(file_name)
    return None if match is None else (match["name"], int(match["version"]))


def parse_prompt(name: str, version: int, content: bytes, environment: "SandboxedEnvironment") -> Prompt:
    """Raises `InvalidRequest` with what is wrong with the file."""
    from jinja2 import TemplateSyntaxError, meta

    if len(content) > MAX_TEMPLATE_BYTES:
        raise InvalidRequest(f"{name}_v{version} is larger than {MAX_TEMPLATE_BYTES} bytes.")
    try:
        text = content.decode()
        match = FRONT_MATTER.match(text)
        matter = FrontMatter.model_validate(yaml.safe_load(match["matter"]) or {} if match else {})
        source = text[match.end() :] if match else text
        template = environment.from_string(source)
        variables = meta.find_undeclared_variables(environment.parse(source))
    except (UnicodeDecodeError, yaml.YAMLError, ValidationError) as error:
        raise InvalidRequest(f"{name}_v{version} cannot be read: {first_line(error)}") from None
    except TemplateSyntaxError as error:
        raise InvalidRequest(f"{name}_v{version}, line {error.lineno}: {error.message}") from None
    return Prompt(
        name=name, version=version, source=source, matter=matter, template=template, variables=frozenset(variables)
    )


def render(prompt: Prompt, variables: Mapping[str, Any]) -> str:
    """The prompt's text. Raises `InvalidRequest` for a missing variable, for what the sandbox forbids and for a
    text that grows over the limit."""
    from jinja2 import TemplateError

    pieces: list[str] = []
    size = 0
    try:
        for piece in prompt.template.generate(dict(variables)):
            pieces.append(piece)
            size += len(piece)
            if size > MAX_RENDERED_CHARACTERS:
                raise InvalidRequest(f"{prompt.name}_v{prompt.version} grew over {MAX_RENDERED_CHARACTERS} characters.")
    except (TemplateError, TypeError, ValueError, ArithmeticError, OverflowError, MemoryError) as error:
        raise InvalidRequest(f"{prompt.name}_v{prompt.version} cannot be rendered: {first_line(error)}") from None
    return "".join(pieces)


def make_environment() -> "SandboxedEnvironment":
    """Jinja2 with nothing to reach out with: no loader, no attribute that starts with an underscore, no method that
    changes its object, and no arithmetic that makes small texts large."""
    from jinja2 import StrictUndefined
    from jinja2.sandbox import ImmutableSandboxedEnvironment

    class PromptEnvironment(ImmutableSandboxedEnvironment):
        intercepted_binops = frozenset({"*", "**"})

        def call_binop(self, context: Any, operator: str, left: Any, right: Any) -> Any:
            if operator == "**" or not all(isinstance(side, int | float) for side in (left, right)):
                raise ValueError(f"the operator {operator} is not allowed on these values")
            return super().call_binop(context, operator, left, right)

    return PromptEnvironment(undefined=StrictUndefined, autoescape=False, keep_trailing_newline=False)


def first_line(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0]
