"""A small valid instance of a JSON schema, for a model that understands nothing but keeps its contracts.

Numbers are the smallest that may be, choices are those the text mentions, and strings without a given form hold the
text. Patterns are not followed.
"""

import math
from collections.abc import Mapping, Sequence
from typing import Any

DEEP = 4
"""Below this many levels, what may be left out or null is: schemas may contain themselves."""
MAX_DEPTH = 64
MAX_VALUES = 10_000

FORMS = {
    "date": "2000-01-01",
    "date-time": "2000-01-01T00:00:00Z",
    "time": "00:00:00Z",
    "duration": "PT0S",
    "email": "offline@example.com",
    "uri": "https://example.com/",
    "uuid": "00000000-0000-4000-8000-000000000000",
}


def instance(schema: Mapping[str, Any], text: str) -> Any:
    """Raises `LookupError`, `TypeError`, `ValueError` or `AttributeError` for what is no schema, or has no end."""
    return Instance(schema, text).of(schema, 0)


class Instance:
    def __init__(self, root: Mapping[str, Any], text: str) -> None:
        self._root = root
        self._text = text
        self._values = 0

    def of(self, schema: Any, depth: int) -> Any:
        self._values += 1
        if depth > MAX_DEPTH or self._values > MAX_VALUES:
            raise ValueError("the schema has no end")
        schema = self._resolved({} if schema is True else schema, depth)
        for key in ("const", "default"):
            if key in schema:
                return schema[key]
        if schema.get("enum"):
            return mentioned(schema["enum"], self._text)
        kind = kind_of(schema)
        if kind == "object":
            return self._object(schema, depth)
        if kind == "array":
            return self._array(schema, depth)
        if kind in ("integer", "number"):
            return small_number(schema, whole=kind == "integer")
        return {"boolean": False, "null": None}.get(kind) if kind != "string" else string(schema, self._text)

    def _resolved(self, schema: Mapping[str, Any], depth: int) -> Mapping[str, Any]:
        """The schema with its reference, its parts (`allOf`) and its choice (`anyOf`) put in."""
        for _ in range(MAX_DEPTH):
            if "$ref" in schema:
                schema = self._lookup(str(schema["$ref"])) | {k: v for k, v in schema.items() if k != "$ref"}
            elif schema.get("allOf"):
                parts = [self._resolved(part, depth) for part in schema["allOf"]]
                schema = merged([*parts, {k: v for k, v in schema.items() if k != "allOf"}])
            elif choices := schema.get("anyOf") or schema.get("oneOf"):
                rest = {k: v for k, v in schema.items() if k not in ("anyOf", "oneOf")}
                schema = {**rest, **choice_of(choices, deep=depth > DEEP)}
            else:
                return schema
        raise ValueError("the schema has no end")

    def _lookup(self, reference: str) -> dict[str, Any]:
        """A reference inside the document (RFC 6901)."""
        if not reference.startswith("#"):
            raise ValueError("only references inside the schema are followed")
        found: Any = self._root
        for step in reference[1:].split("/")[1:]:
            found = found[step.replace("~1", "/").replace("~0", "~")]
        return dict(found)

    def _object(self, schema: Mapping[str, Any], depth: int) -> dict[str, Any]:
        properties = schema.get("properties", {})
        wanted = schema.get("required", () if depth > DEEP else properties)
        return {name: self.of(properties.get(name, {}), depth + 1) for name in wanted}

    def _array(self, schema: Mapping[str, Any], depth: int) -> list[Any]:
        first = [self.of(item, depth + 1) for item in schema.get("prefixItems", ())]
        least = schema.get("minItems", 0)
        count = max(least, 0 if depth > DEEP or first else min(1, schema.get("maxItems", 1))) - len(first)
        if count > MAX_VALUES:
            raise ValueError("the array is too long")
        return first + [self.of(schema.get("items", {}), depth + 1)] * count if count > 0 else first


def kind_of(schema: Mapping[str, Any]) -> str:
    implied = "object" if "properties" in schema else "array" if "items" in schema else "string"
    kind = schema.get("type", implied)
    return str(kind if isinstance(kind, str) else kind[0])


def choice_of(choices: Sequence[Mapping[str, Any]], *, deep: bool) -> Mapping[str, Any]:
    """The first that is not null; null, if it may be, where the instance is deep."""
    nulls = [choice for choice in choices if choice.get("type") == "null"]
    others = [choice for choice in choices if choice.get("type") != "null"]
    return (nulls + others if deep else others + nulls)[0]


def merged(parts: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    result: dict[str, Any] = {}
    for part in parts:
        properties = {**result.get("properties", {}), **part.get("properties", {})}
        required = [*result.get("required", ()), *part.get("required", ())]
        result |= part
        result |= {"properties": properties} if properties else {}
        result |= {"required": required} if required else {}
    return result


def mentioned(choices: Sequence[Any], text: str) -> Any:
    """The choice the text mentions last, or the first."""
    place, choice = max(((text.rfind(str(choice)), choice) for choice in choices), key=lambda pair: pair[0])
    return choice if place >= 0 else choices[0]


def small_number(schema: Mapping[str, Any], *, whole: bool) -> float | int:
    """Zero, or the number nearest to it that the bounds allow."""
    low = max(schema.get("minimum", -math.inf), above(schema.get("exclusiveMinimum", -math.inf), whole))
    high = min(schema.get("maximum", math.inf), -above(-schema.get("exclusiveMaximum", math.inf), whole))
    value = min(max(0, low), high)
    step = schema.get("multipleOf")
    if step:
        value = math.ceil(value / step) * step
    return math.ceil(value) if whole else float(value)


def above(bound: float, whole: bool) -> float:
    """The least number above an exclusive bound."""
    if math.isinf(bound):
        return bound
    return math.floor(bound) + 1 if whole else math.nextafter(bound, math.inf)


def string(schema: Mapping[str, Any], text: str) -> str:
    if schema.get("format") in FORMS:
        return FORMS[schema["format"]]
    least = int(schema.get("minLength", 0))
    if least > 1_000_000:
        raise ValueError("the string is too long")
    return (text or "offline").ljust(least, ".")[: schema.get("maxLength")]
