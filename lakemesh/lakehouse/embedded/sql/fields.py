"""A field inside a value: by its name, by a path after a colon, or as the end of a dotted name."""

from sqlglot import exp

from lakemesh.errors import InvalidRequest
from lakemesh.lakehouse.embedded.sql.json_paths import variant_field
from lakemesh.lakehouse.embedded.sql.maps import value_of
from lakemesh.lakehouse.embedded.sql.types import VARIANT, array, text_literal
from lakemesh.lakehouse.embedded.sql.values import Typed, string, unsupported


def dotted(node: exp.Expr) -> list[str]:
    """The names of `a.b.c`, or none when it hangs on something else."""
    if isinstance(node, exp.Dot):
        names = dotted(node.this)
        return [*names, node.expression.name] if names and isinstance(node.expression, exp.Identifier) else []
    return [part.name for part in node.parts] if isinstance(node, exp.Column) else []


def field_of(value: Typed, name: str) -> Typed:
    """A field of a struct, or of every struct of an array."""
    if value.type.name == "ARRAY":
        inner = field_of(Typed("x_", value.type.item), name)
        return Typed(
            f"list_transform({value.sql}, lambda x_: {inner.sql})", array(inner.type), aggregate=value.aggregate
        )
    if value.type == VARIANT:
        return variant_field(value, f"$['{name}']")
    if value.type.name == "MAP":
        return value_of(value, string(name))
    place = value.type.field(name) if value.type.name == "STRUCT" else None
    if place is None:
        raise InvalidRequest(f"[FIELD_NOT_FOUND] There is no field {name!r:.60} in {value.type.text:.200}.")
    sql = f"struct_extract({value.sql}, {text_literal(value.type.fields[place])})"
    return Typed(sql, value.type.args[place], aggregate=value.aggregate)


def colon_path(path: exp.Expr) -> str:
    """The path after a colon as one that starts with `$`."""
    if isinstance(path, exp.JSONPath):
        steps = []
        for step in path.expressions:
            if isinstance(step, exp.JSONPathRoot):
                continue
            if isinstance(step, exp.JSONPathKey) and isinstance(step.this, str):
                steps.append(f"['{step.this}']")
            elif isinstance(step, exp.JSONPathSubscript) and isinstance(step.this, int):
                steps.append(f"[{step.this}]")
            elif isinstance(step, exp.JSONPathSubscript) and isinstance(step.this, exp.JSONPathWildcard):
                steps.append("[*]")
            else:
                raise unsupported(f"the path {path.sql('databricks')!r:.100}")
        return "$" + "".join(steps)
    text = path.name
    return text if text.startswith("$") else f"$.{text}"
