"""Literals and parameters."""

import re
from collections.abc import Mapping
from datetime import date, datetime
from decimal import Decimal
from typing import Any

from sqlglot import exp

from lakemesh.errors import InvalidRequest
from lakemesh.lakehouse.embedded.sql.datetimes import interval_text, parse_date, parse_moment
from lakemesh.lakehouse.embedded.sql.types import (
    BIGINT,
    BINARY,
    BOOLEAN,
    DATE,
    DOUBLE,
    FLOAT,
    INT,
    SMALLINT,
    STRING,
    TIMESTAMP,
    TIMESTAMP_NTZ,
    TINYINT,
    VOID,
    Type,
    interval,
    text_literal,
)
from lakemesh.lakehouse.embedded.sql.values import Typed, string, unsupported

MAX_INT, MAX_LONG = 2**31 - 1, 2**63 - 1
SUFFIXES = {"L": BIGINT, "S": SMALLINT, "Y": TINYINT, "D": DOUBLE, "F": FLOAT}
NUMBER = re.compile(r"(-?(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?)(BD|[LSYDF])?", re.IGNORECASE)
DAYS_UNITS = ("DAY", "HOUR", "MINUTE", "SECOND", "WEEK")


def number_literal(text: str) -> Typed:
    found = NUMBER.fullmatch(text)
    if found is None:
        raise InvalidRequest(f"[PARSE_SYNTAX_ERROR] {text!r:.40} is not a number.")
    digits, suffix = found[1], (found[2] or "").upper()
    if suffix in SUFFIXES:
        return number(digits, SUFFIXES[suffix])
    if not suffix and re.fullmatch(r"-?\d+", digits):
        value = int(digits)
        if -MAX_LONG - 1 <= value <= MAX_LONG:
            return number(digits, INT if -MAX_INT - 1 <= value <= MAX_INT else BIGINT)
    if not suffix and "e" in digits.lower():
        return number(digits, DOUBLE)
    return exact_number(Decimal(digits))


def number(digits: str, kind: Type) -> Typed:
    if kind.is_integer:
        try:
            return Typed(f"CAST({int(digits)} AS {kind.duck})", kind, int(digits))
        except ValueError:
            raise InvalidRequest(f"[INVALID_NUMERIC_LITERAL] {digits!r:.40} is not a {kind.text}.") from None
    return Typed(f"CAST({text_literal(digits)} AS {kind.duck})", kind, float(digits))


def exact_number(value: Decimal) -> Typed:
    _, digits, exponent = value.as_tuple()
    scale = max(0, -int(exponent))
    precision = max(len(digits) + max(0, int(exponent)), scale)
    if precision > 38:
        raise InvalidRequest("[DECIMAL_PRECISION_EXCEEDS_MAX_PRECISION] A DECIMAL has at most 38 digits.")
    kind = Type("DECIMAL", precision=max(precision, 1), scale=scale)
    return Typed(f"CAST({text_literal(format(value, 'f'))} AS {kind.duck})", kind, value)


def moment_literal(value: datetime, kind: Type) -> Typed:
    zone = "+00" if kind == TIMESTAMP else ""
    return Typed(f"CAST('{value.isoformat(sep=' ')}{zone}' AS {kind.duck})", kind, value)


def typed_literal(node: exp.Cast) -> Typed | None:
    """DATE'...', TIMESTAMP'...' and TIMESTAMP_NTZ'...', which the parser gives as casts of text, and their casts."""
    name = node.to.this.value if isinstance(node.to.this, exp.DType) else ""
    text = str(node.this.this)
    if isinstance(node, exp.TryCast) or name not in (
        "DATE",
        "TIMESTAMPTZ",
        "TIMESTAMPLTZ",
        "TIMESTAMP",
        "TIMESTAMPNTZ",
    ):
        return None
    try:
        if name == "DATE":
            day = parse_date(text)
            return Typed(f"DATE '{day.isoformat()}'", DATE, day)
        moment, zoned = parse_moment(text)
    except InvalidRequest as error:
        kind = "DATE" if name == "DATE" else "TIMESTAMP"
        raise InvalidRequest(
            f'[CAST_INVALID_INPUT] The value {text!r:.60} of the type "STRING" cannot be cast to "{kind}".'
        ) from error
    del zoned
    return moment_literal(moment, TIMESTAMP_NTZ if name == "TIMESTAMPNTZ" else TIMESTAMP)


def interval_literal(value: str, unit: exp.Expr | None) -> Typed:
    """`INTERVAL 3 DAYS`, `INTERVAL '1 2:03:04' DAY TO SECOND`. Its value is (months, microseconds)."""
    if unit is None:
        number_part, _, name = value.strip().partition(" ")
        if " " in name or not name:
            raise unsupported(f"the interval {value!r} of several units")
        value, unit = number_part, exp.var(name.upper())
    name = f"{unit.this} TO {unit.expression}" if isinstance(unit, exp.IntervalSpan) else unit.name
    name = " ".join(word.upper().removesuffix("S") for word in name.split())
    if name == "QUARTER":
        value, name = str(3 * int(value)), "MONTH"
    if name in ("MILLISECOND", "MICROSECOND"):
        micros = int(value) * (1_000 if name == "MILLISECOND" else 1)
        return Typed(f"to_microseconds({micros})", interval("SECOND"), (0, micros))
    first, _, last = name.partition(" TO ")
    if first not in (*DAYS_UNITS, "YEAR", "MONTH"):
        raise InvalidRequest(f"[PARSE_SYNTAX_ERROR] {name!r:.40} is not a unit of intervals.")
    months, micros = interval_text(value, name)
    if first in ("YEAR", "MONTH"):
        return Typed(f"to_months({months})", interval(first, last or None), (months, 0))
    days, rest = divmod(abs(micros), 86_400_000_000)
    sign = -1 if micros < 0 else 1
    sql = f"(to_days({sign * days}) + to_microseconds({sign * rest}))"
    return Typed(sql, interval("DAY" if first == "WEEK" else first, last or None), (0, micros))


def parameter_value(name: str, parameters: Mapping[str, Any]) -> Typed:
    """A bound parameter. Its value is known here, so that paths and formats may be parameters too; into DuckDB's
    text goes only a reference to it."""
    if name not in parameters:
        raise InvalidRequest(f"[UNBOUND_SQL_PARAMETER] The statement needs a value for its parameter :{name:.60}.")
    value = parameters[name]
    kind = type_of_value(name, value)
    if kind == VOID:
        return Typed("NULL", VOID, None)
    if kind == STRING:
        return Typed(f"CAST(${name} AS VARCHAR)", STRING, string(value).value)
    constant = value if not isinstance(value, float) else float(value)
    return Typed(f"CAST(${name} AS {kind.duck})", kind, constant)


def type_of_value(name: str, value: Any) -> Type:
    match value:
        case None:
            return VOID
        case bool():
            return BOOLEAN
        case int():
            return INT if -MAX_INT - 1 <= value <= MAX_INT else BIGINT
        case float():
            return DOUBLE
        case Decimal():
            return exact_number(value).type if value.is_finite() else DOUBLE
        case datetime():
            return TIMESTAMP if value.tzinfo else TIMESTAMP_NTZ
        case date():
            return DATE
        case str():
            return STRING
    raise InvalidRequest(f"The parameter :{name} is a {type(value).__name__}, which SQL has no type for.")


def hex_literal(digits: str) -> Typed:
    """X'1F'. Raises `InvalidRequest`."""
    try:
        content = bytes.fromhex(digits if len(digits) % 2 == 0 else "0" + digits)
    except ValueError:
        raise InvalidRequest(f"[INVALID_TYPED_LITERAL] X'{digits:.40}' is not hexadecimal.") from None
    return Typed("CAST('" + "".join(f"\\x{byte:02X}" for byte in content) + "' AS BLOB)", BINARY)
