"""The public names of lakemesh with their signatures, as text: `python -m tests.api.signatures` writes them down."""

import dataclasses
import enum
import inspect
import re
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import Any

SIGNATURES = Path(__file__).parent / "signatures.txt"
MODULES = ("lakemesh", "lakemesh.agents", "lakemesh.client", "lakemesh.errors", "lakemesh.schemas", "lakemesh.testing")
ADDRESS = re.compile(r" at 0x[0-9a-f]+")


def signatures() -> str:
    lines: list[str] = []
    for name in MODULES:
        module = import_module(name)
        lines += ["", f"# {name}"]
        for public in sorted(public_names(module)):
            value = getattr(module, public)
            home = getattr(value, "__module__", name)
            if name == "lakemesh" and inspect.isclass(value) | inspect.isroutine(value):
                lines.append(f"{public} of {home}")  # its own module is listed, or it is another's
                continue
            lines += described(public, value)
    return "\n".join(lines[1:]) + "\n"


def public_names(module: ModuleType) -> list[str]:
    if hasattr(module, "__all__"):
        return list(module.__all__)
    own = {name: value for name, value in vars(module).items() if not name.startswith("_")}
    return [name for name, value in own.items() if getattr(value, "__module__", None) == module.__name__]


def described(name: str, value: Any) -> Iterator[str]:
    if inspect.isclass(value):
        yield f"class {name}({', '.join(base.__name__ for base in value.__bases__ if base is not object)})"
        yield from (f"    {line}" for line in members_of(value))
    elif inspect.isroutine(value):
        yield f"{name}{signature_of(value)}"
    else:
        yield f"{name}: {type(value).__name__}"


def members_of(kind: type) -> Iterator[str]:
    if issubclass(kind, enum.Enum):
        yield from (member.name for member in kind)
        return
    if not issubclass(kind, Exception) or "__init__" in vars(kind):
        yield f"__init__{signature_of(kind)}"
    if issubclass(kind, Exception) and "code" in vars(kind):
        yield f"code {kind.code!r}, status {getattr(kind, 'status', None)}"
    fields = {field.name for field in dataclasses.fields(kind)} if dataclasses.is_dataclass(kind) else set()
    for name, member in sorted(vars(kind).items()):
        if name.startswith("_") or name in fields:
            continue
        if isinstance(member, property):
            yield f"{name}: property"
        elif isinstance(member, classmethod | staticmethod):
            yield f"{name}{signature_of(member.__func__)} ({type(member).__name__})"
        elif inspect.isfunction(member):
            prefix = "async " if inspect.iscoroutinefunction(member) else ""
            yield f"{prefix}{name}{signature_of(member)}"


def signature_of(value: Any) -> str:
    try:
        found = str(inspect.signature(value))
    except ValueError:
        return "(...)"
    return ADDRESS.sub("", found).replace("typing.", "").replace("collections.abc.", "")


if __name__ == "__main__":
    SIGNATURES.write_text(signatures())
