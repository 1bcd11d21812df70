"""Prompt files: front matter and a Jinja2 template, rendered in a sandbox."""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from lakemesh.config.loader import ConfigFile, read_yaml
from lakemesh.errors import InvalidRequest

if TYPE_CHECKING:
    from jinja2 import Template

    from lakemesh.prompts.sandbox import PromptEnvironment

FILE_NAME = re.compile(r"(?P<name>[a-z][a-z0-9_]{0,63})_v(?P<version>[1-9][0-9]{0,8})\.(?:txt|jinja)")
FRONT_MATTER = re.compile(r"\A---\n(?P<matter>.*?)^---(?:\n|\Z)", re.DOTALL | re.MULTILINE)
MAX_FILE_BYTES = 256 * 1024


class FrontMatter(BaseModel):
    """What a prompt may say of itself, between two lines of `---`."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    description: str = ""
    route: str | None = None
    temperature: float | None = Field(default=None, ge=0, le=2)


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


def parse_prompt(name: str, version: int, content: bytes, environment: "PromptEnvironment") -> Prompt:
    """Raises `InvalidRequest` with what is wrong with the file."""
    from jinja2 import TemplateSyntaxError, meta

    matter, source = split_front_matter(f"{name}_v{version}", content)
    try:
        template = environment.from_string(source)
        variables = meta.find_undeclared_variables(environment.parse(source))
    except TemplateSyntaxError as error:
        raise InvalidRequest(f"{name}_v{version}, line {error.lineno}: {error.message}") from None
    except (SyntaxError, RecursionError, MemoryError):
        raise InvalidRequest(f"{name}_v{version} is nested too deeply.") from None
    return Prompt(
        name=name, version=version, source=source, matter=matter, template=template, variables=frozenset(variables)
    )


def split_front_matter(label: str, content: bytes) -> tuple[FrontMatter, str]:
    """What the file says of itself, and its template. Raises `InvalidRequest`."""
    try:
        text = content.decode("utf-8-sig").replace("\r\n", "\n")
    except UnicodeDecodeError:
        raise InvalidRequest(f"{label} is not UTF-8.") from None
    if not text.startswith("---\n"):
        return FrontMatter(), text
    match = FRONT_MATTER.match(text)
    if match is None:
        raise InvalidRequest(f"{label}: the front matter does not end; it needs a second line of ---.")
    faults: list[str] = []
    matter = read_yaml(ConfigFile(label, match["matter"].encode()), faults)
    if faults:
        raise InvalidRequest(faults[0])
    try:
        return FrontMatter.model_validate(matter), text[match.end() :]
    except ValidationError as error:
        fault = error.errors()[0]
        raise InvalidRequest(f"{label}: {'.'.join(map(str, fault['loc']))}: {fault['msg']}") from None


def render(prompt: Prompt, variables: Mapping[str, Any], *, cpu_seconds: float) -> str:
    """The prompt's text. Raises `InvalidRequest` for a missing variable, for what the sandbox forbids and for a
    rendering over its budget, or over that many seconds of processor time."""
    from jinja2 import TemplateError

    from lakemesh.prompts.sandbox import BUDGET_KEY, Budget

    try:
        return prompt.template.render({**variables, BUDGET_KEY: Budget(cpu_seconds)})
    except (TemplateError, TypeError, ValueError, ArithmeticError, MemoryError, RecursionError) as error:
        raise InvalidRequest(f"{prompt.name}_v{prompt.version} cannot be rendered: {first_line(error)}") from None


def first_line(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0]
