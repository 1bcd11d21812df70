"""What scalar functions there are, by the names Spark gives them, and how their arguments are converted."""

from collections.abc import Callable, Sequence

from lakemesh.errors import InvalidRequest
from lakemesh.lakehouse.embedded.sql.casts import cast, implicit
from lakemesh.lakehouse.embedded.sql.scalars import Scalar
from lakemesh.lakehouse.embedded.sql.types import (
    BIGINT,
    INT,
    STRING,
    VARIANT,
    VOID,
    Type,
    array,
)
from lakemesh.lakehouse.embedded.sql.values import (
    Typed,
    mismatch,
)

Build = Callable[[Sequence[Typed]], Typed]

BUILT: dict[str, Build] = {}


def built(*names: str) -> Callable[[Build], Build]:
    def register(build: Build) -> Build:
        BUILT.update(dict.fromkeys(names, build))
        return build

    return register


def fill(name: str, forms: Sequence[Scalar], values: Sequence[Typed]) -> Typed:
    from lakemesh.lakehouse.embedded.sql.scalars import CODES

    if not forms:
        raise InvalidRequest(f"[WRONG_NUM_ARGS] {name}() does not take {len(values)} arguments.")
    form = forms[0]
    if len(forms) > 1 and values[0].type.name in ("DOUBLE", "FLOAT", "DECIMAL"):
        form = forms[-1]
    wanted = [CODES[code] for code in form.parameters]
    given = [value if kind is None else convert(value, kind, name) for value, kind in zip(values, wanted, strict=True)]
    returns = form.returns if isinstance(form.returns, Type) else form.returns(*(value.type for value in given))
    return Typed(form.text.format(*(value.sql for value in given)), returns, volatile=form.volatile)


def convert(value: Typed, kind: Type, name: str) -> Typed:
    """The implicit conversion of an argument."""
    if kind == INT and value.type.name in ("BIGINT", "DECIMAL", "DOUBLE", "FLOAT"):
        if value.type != BIGINT and name not in ("make_date",):
            raise mismatch(f"{name}()", value.type)
        return cast(value, INT)
    if kind == BIGINT and value.type.is_float:
        raise mismatch(f"{name}()", value.type)
    if kind == STRING and (value.type.args or (value.type == VARIANT and name == "get_json_object")):
        raise mismatch(f"{name}()", value.type)
    return implicit(value, kind, f"{name}()")


def listed(value: Typed, name: str) -> Typed:
    if value.type == VOID:
        return Typed("CAST(NULL AS INTEGER[])", array(VOID))
    if value.type.name != "ARRAY":
        raise mismatch(f"{name}()", value.type)
    return value


def mapped(value: Typed, name: str) -> Typed:
    if value.type.name != "MAP":
        raise mismatch(f"{name}()", value.type)
    return value
