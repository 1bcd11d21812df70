"""Paths into JSON: Spark's way of writing them as DuckDB's."""

import re
from collections.abc import Sequence

from lakemesh.errors import InvalidRequest
from lakemesh.lakehouse.embedded.sql.types import STRING, VARIANT, text_literal
from lakemesh.lakehouse.embedded.sql.values import Typed, mismatch

STEP = re.compile(r"""\.(?P<name>[^.\[\]'"]+)|\[(?P<index>\d+)\]|\['(?P<quoted>[^']+)'\]|(?P<many>\[\*\])""")
VARIANT_STEP = re.compile(
    r"""\.(?P<name>[^.\[\]'"]+)|\[(?P<index>\d+)\]|\['(?P<quoted>[^']+)'\]|\["(?P<double>[^"]+)"\]"""
)


def json_path(path: str) -> tuple[str | None, bool]:
    """DuckDB's form of a path of get_json_object, or None for one that Spark finds nothing by (`$."k"` is such a one);
    and whether it may find several."""
    steps = steps_of(path, STEP)
    if steps is None:
        return None, False
    return "$" + "".join(steps), "[*]" in steps


def variant_field(value: Typed, path: str) -> Typed:
    """What is at the path inside a VARIANT. Raises `InvalidRequest` for a path that is none."""
    if value.type != VARIANT:
        raise mismatch("variant_get()", value.type)
    steps = steps_of(path, VARIANT_STEP)
    if steps is None:
        raise InvalidRequest(f"[INVALID_VARIANT_GET_PATH] {path!r:.100} is not a path into a VARIANT.")
    where = text_literal("$" + "".join(steps))
    return Typed(
        f"json_extract({value.sql}, {where})",
        VARIANT,
        volatile=value.volatile,
        aggregate=value.aggregate,
        inside=(value.sql, where),
    )


def looked_up(value: Typed, constants: Sequence[Typed]) -> Typed:
    """A part of a VARIANT as text that is compared with constants: without the second look that writes objects and
    arrays as Spark does, where no constant looks like one."""
    if value.inside is None or value.type != STRING:
        return value
    if not all(isinstance(each.value, str) and each.value[:1] not in ("{", "[") for each in constants):
        return value
    document, where = value.inside
    sql = f"json_extract_string({document}, {where})"
    return Typed(sql, STRING, volatile=value.volatile, aggregate=value.aggregate)


def steps_of(path: str, step: "re.Pattern[str]") -> list[str] | None:
    if not path.startswith("$"):
        return None
    position, steps = 1, []
    while position < len(path):
        found = step.match(path, position)
        if found is None:
            return None
        position = found.end()
        groups = found.groupdict()
        name = groups.get("name") or groups.get("quoted") or groups.get("double")
        if name is not None:
            if '"' in name or "\\" in name:
                return None
            steps.append(f'."{name}"')
        else:
            steps.append(f"[{groups['index']}]" if groups.get("index") is not None else "[*]")
    return steps
