"""Spark's types, their names in DuckDB, and the type that two of them have in common."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

from sqlglot import exp

from lakemesh.errors import InvalidRequest
from lakemesh.lakehouse.spark_dialect import parse_type

MAX_PRECISION = 38
MIN_DIVISION_SCALE = 6


@dataclass(frozen=True, slots=True)
class Type:
    """`name` is Spark's key word; `args` are the types inside, `fields` the names of a struct's."""

    name: str
    args: tuple["Type", ...] = ()
    fields: tuple[str, ...] = ()
    precision: int = 0
    scale: int = 0
    unit: str = ""

    @property
    def text(self) -> str:
        """As Databricks writes it."""
        if self.name == "DECIMAL":
            return f"DECIMAL({self.precision},{self.scale})"
        if self.name == "STRUCT":
            inside = (f"{field}: {item.text}" for field, item in zip(self.fields, self.args, strict=True))
            return f"STRUCT<{', '.join(inside)}>"
        if self.name == "INTERVAL":
            return f"INTERVAL {self.unit}"
        return f"{self.name}<{', '.join(item.text for item in self.args)}>" if self.args else self.name

    @property
    def simple(self) -> str:
        """As `typeof` gives it."""
        if self.name == "STRUCT":
            inside = (f"{field}:{item.simple}" for field, item in zip(self.fields, self.args, strict=True))
            return f"struct<{','.join(inside)}>"
        if self.args:
            return f"{self.name.lower()}<{','.join(item.simple for item in self.args)}>"
        return self.text.lower()

    @property
    def duck(self) -> str:
        match self.name:
            case "DECIMAL":
                return f"DECIMAL({self.precision},{self.scale})"
            case "ARRAY":
                return f"{self.args[0].duck}[]"
            case "MAP":
                return f"MAP({self.args[0].duck}, {self.args[1].duck})"
            case "STRUCT":
                inside = (f"{quoted(name)} {item.duck}" for name, item in zip(self.fields, self.args, strict=True))
                return f"STRUCT({', '.join(inside)})"
        return DUCK.get(self.name, self.name)

    @property
    def is_integer(self) -> bool:
        return self.name in INTEGERS

    @property
    def is_float(self) -> bool:
        return self.name in ("FLOAT", "DOUBLE")

    @property
    def is_number(self) -> bool:
        return self.is_integer or self.is_float or self.name == "DECIMAL"

    @property
    def is_time(self) -> bool:
        return self.name in ("DATE", "TIMESTAMP", "TIMESTAMP_NTZ")

    @property
    def item(self) -> "Type":
        return self.args[0] if self.args else VOID

    def field(self, name: str) -> int | None:
        """The place of a struct's field; names differ by more than case."""
        lowered = [field.lower() for field in self.fields]
        return lowered.index(name.lower()) if name.lower() in lowered else None


INTEGERS = ("TINYINT", "SMALLINT", "INT", "BIGINT")
DIGITS = {"TINYINT": 3, "SMALLINT": 5, "INT": 10, "BIGINT": 20}
DUCK = {
    "STRING": "VARCHAR",
    "VARIANT": "JSON",
    "INT": "INTEGER",
    "BINARY": "BLOB",
    "TIMESTAMP": "TIMESTAMPTZ",
    "TIMESTAMP_NTZ": "TIMESTAMP",
    "VOID": "INTEGER",
    "INTERVAL": "INTERVAL",
}
VOID, BOOLEAN, STRING, BINARY = Type("VOID"), Type("BOOLEAN"), Type("STRING"), Type("BINARY")
TINYINT, SMALLINT, INT, BIGINT = (Type(name) for name in INTEGERS)
FLOAT, DOUBLE = Type("FLOAT"), Type("DOUBLE")
DATE, TIMESTAMP, TIMESTAMP_NTZ = Type("DATE"), Type("TIMESTAMP"), Type("TIMESTAMP_NTZ")
VARIANT = Type("VARIANT")
DAY_TIME_UNITS = ("DAY", "HOUR", "MINUTE", "SECOND")
NAMES = {
    "TEXT": STRING,
    "VARCHAR": STRING,
    "CHAR": STRING,
    "TIMESTAMPTZ": TIMESTAMP,
    "TIMESTAMPLTZ": TIMESTAMP,
    "TIMESTAMPNTZ": TIMESTAMP_NTZ,
    "VARBINARY": BINARY,
    "NULL": VOID,
    "UNKNOWN": VOID,
}
PLAIN = {
    kind.name: kind
    for kind in (BOOLEAN, BINARY, TINYINT, SMALLINT, INT, BIGINT, FLOAT, DOUBLE, DATE, TIMESTAMP, VARIANT, VOID)
}


def decimal(precision: int, scale: int) -> Type:
    """Bounded as Spark does, which keeps whole digits and at least six of the fraction."""
    if precision > MAX_PRECISION:
        whole = precision - scale
        scale = max(MAX_PRECISION - whole, min(scale, MIN_DIVISION_SCALE))
        precision = MAX_PRECISION
    return Type("DECIMAL", precision=precision, scale=scale)


def array(item: Type) -> Type:
    return Type("ARRAY", (item,))


def map_of(key: Type, value: Type) -> Type:
    return Type("MAP", (key, value))


def struct(fields: Sequence[tuple[str, Type]]) -> Type:
    return Type("STRUCT", tuple(kind for _, kind in fields), tuple(name for name, _ in fields))


def interval(first: str, last: str | None = None) -> Type:
    return Type("INTERVAL", unit=first if last in (None, first) else f"{first} TO {last}")


@lru_cache(maxsize=4_096)
def type_of(text: str) -> Type:
    """Raises `InvalidRequest` for a type that is none."""
    return convert(parse_type(text))


def convert(parsed: exp.DataType) -> Type:
    """A type of the tree. Raises `InvalidRequest` for those the embedded build does not have."""
    name = parsed.this.value if isinstance(parsed.this, exp.DType) else str(parsed.this)
    inside = parsed.expressions
    if name == "ARRAY" and inside:
        return array(convert(inside[0]))
    if name == "MAP" and len(inside) == 2:
        return map_of(convert(inside[0]), convert(inside[1]))
    if name == "STRUCT":
        return struct([(member.name, convert(member.args["kind"])) for member in inside])
    if name == "DECIMAL":
        sizes = [int(size.name) for size in inside] or [10]
        if sizes[0] > MAX_PRECISION:
            raise InvalidRequest(f"[DECIMAL_PRECISION_EXCEEDS_MAX_PRECISION] {sizes[0]} digits are more than 38.")
        return Type("DECIMAL", precision=sizes[0], scale=sizes[1] if len(sizes) > 1 else 0)
    found = PLAIN.get(name) or NAMES.get(name)
    if found is None:
        raise InvalidRequest(f"[UNSUPPORTED_DATATYPE] The type {parsed.sql('databricks')!r:.100} is not supported.")
    return found


def as_decimal(kind: Type) -> Type:
    """The decimal that holds every value of an exact number."""
    return Type("DECIMAL", precision=DIGITS[kind.name], scale=0) if kind.is_integer else kind


def common(left: Type, right: Type) -> Type | None:
    """The type both are converted to where one is needed (in CASE, UNION, arrays), or None."""
    if left == right or right == VOID:
        return left
    if left == VOID:
        return right
    if left.is_number and right.is_number:
        return common_number(left, right)
    names = {left.name, right.name}
    if "STRING" in names:
        other = left if right == STRING else right
        return _common_with_string(other)
    if names == {"DATE", "TIMESTAMP"} or names == {"TIMESTAMP", "TIMESTAMP_NTZ"}:
        return TIMESTAMP
    if names == {"DATE", "TIMESTAMP_NTZ"}:
        return TIMESTAMP_NTZ
    if left.name == right.name == "INTERVAL":
        return wider_interval(left, right)
    if left.name == right.name and len(left.args) == len(right.args) and left.args:
        items = [common(one, other) for one, other in zip(left.args, right.args, strict=True)]
        if all(items):
            return Type(left.name, tuple(item for item in items if item), left.fields)
    return None


def common_number(left: Type, right: Type) -> Type:
    if left.is_integer and right.is_integer:
        return max(left, right, key=lambda kind: INTEGERS.index(kind.name))
    if left.is_float or right.is_float:
        return FLOAT if {left.name, right.name} <= {"FLOAT", *INTEGERS} else DOUBLE
    one, other = as_decimal(left), as_decimal(right)
    scale = max(one.scale, other.scale)
    return decimal(max(one.precision - one.scale, other.precision - other.scale) + scale, scale)


def _common_with_string(other: Type) -> Type | None:
    """Under ANSI rules a string becomes what it meets."""
    if other.is_integer:
        return BIGINT
    if other.is_float or other.name == "DECIMAL":
        return DOUBLE
    return other if other.is_time or other.name in ("BOOLEAN", "BINARY") else None


def wider_interval(left: Type, right: Type) -> Type:
    units = [unit for kind in (left, right) for unit in kind.unit.split(" TO ")]
    order = DAY_TIME_UNITS if units[0] in DAY_TIME_UNITS else ("YEAR", "MONTH")
    return interval(min(units, key=order.index), max(units, key=order.index))


def quoted(name: str) -> str:
    """An identifier in DuckDB's quotes."""
    return '"' + name.replace('"', '""') + '"'


def text_literal(text: str) -> str:
    """A string in DuckDB's quotes, where a backslash means itself."""
    if "\0" in text:
        raise InvalidRequest("A string with a NUL character cannot be used here.")
    return "'" + text.replace("'", "''") + "'"
