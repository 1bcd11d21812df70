"""Arithmetic, comparison and logic with Spark's types, overflows and errors."""

from lakemesh.errors import InvalidRequest
from lakemesh.lakehouse.embedded.sql.casts import cast
from lakemesh.lakehouse.embedded.sql.json_paths import looked_up
from lakemesh.lakehouse.embedded.sql.types import (
    BIGINT,
    BOOLEAN,
    DATE,
    DOUBLE,
    INT,
    STRING,
    TIMESTAMP,
    VOID,
    Type,
    as_decimal,
    common,
    common_number,
    decimal,
    interval,
    wider_interval,
)
from lakemesh.lakehouse.embedded.sql.values import Typed, error_call, mismatch

DIVIDE_BY_ZERO = error_call("DIVIDE_BY_ZERO", "Division by zero. Use `try_divide` to get NULL instead.")
REMAINDER_BY_ZERO = error_call("REMAINDER_BY_ZERO", "Remainder by zero. Use `try_mod` to get NULL instead.")


def number(value: Typed, other: Type) -> Typed:
    """An operand of arithmetic: a string becomes the number it is met by."""
    if value.type == STRING:
        return cast(value, BIGINT if other.is_integer else DOUBLE)
    if value.type == VOID:
        return cast(value, other if other.is_number else DOUBLE)
    return value


def exact(value: Typed) -> Type:
    """The decimal of an operand: a constant integer takes its own digits, as in Spark."""
    if value.type.is_integer and value.is_constant and isinstance(value.value, int):
        return Type("DECIMAL", precision=max(1, len(str(abs(value.value)))), scale=0)
    return as_decimal(value.type)


def joined(left: Typed, right: Typed) -> bool:
    return left.aggregate or right.aggregate


def binary(left: Typed, right: Typed, sql: str, kind: Type) -> Typed:
    return Typed(sql, kind, volatile=left.volatile or right.volatile, aggregate=joined(left, right))


def arithmetic(operator: str, left: Typed, right: Typed, *, safe: bool = False) -> Typed:
    """`+`, `-`, `*`, `/`, `%` and `div`. Raises `InvalidRequest` for types that have none."""
    if operator in "+-" and (temporal := add_times(operator, left, right)) is not None:
        return temporal
    if operator in "*/" and "INTERVAL" in (left.type.name, right.type.name):
        return scale_interval(operator, left, right)
    left, right = number(left, right.type), number(right, left.type)
    if not (left.type.is_number and right.type.is_number):
        raise mismatch(f"The operator {operator!r}", left.type, right.type)
    if operator == "div":
        return whole_division(left, right, safe)
    if operator == "/" and not (left.type.name == "DECIMAL" or right.type.name == "DECIMAL"):
        return quotient(cast(left, DOUBLE), cast(right, DOUBLE), safe)
    if "DECIMAL" in (left.type.name, right.type.name) and not (left.type.is_float or right.type.is_float):
        return decimal_arithmetic(operator, left, right, safe)
    kind = DOUBLE if operator == "/" else common_number(left.type, right.type)
    left, right = cast(left, kind), cast(right, kind)
    if operator == "/":
        return quotient(left, right, safe)
    if operator == "%":
        return binary(left, right, guarded(f"({left.sql} % {right.sql})", right, REMAINDER_BY_ZERO, safe), kind)
    sql = f"({left.sql} {operator} {right.sql})"
    return binary(left, right, f"TRY({sql})" if safe else sql, kind)


def guarded(sql: str, divisor: Typed, error: str, safe: bool) -> str:
    if divisor.is_constant and divisor.value not in (0, None):
        return sql
    return f"(CASE WHEN {divisor.sql} = 0 THEN {'NULL' if safe else error} ELSE {sql} END)"


def quotient(left: Typed, right: Typed, safe: bool) -> Typed:
    return binary(left, right, guarded(f"({left.sql} / {right.sql})", right, DIVIDE_BY_ZERO, safe), left.type)


def whole_division(left: Typed, right: Typed, safe: bool) -> Typed:
    if left.type.is_float or right.type.is_float:
        raise mismatch("The operator 'div'", left.type, right.type)
    if left.type.is_integer and right.type.is_integer:
        one, other = cast(left, BIGINT), cast(right, BIGINT)
        sql = f"({one.sql} // {other.sql})"
    else:
        sql = f"CAST(trunc({left.sql} / {right.sql}) AS BIGINT)"
    return binary(left, right, guarded(sql, right, DIVIDE_BY_ZERO, safe), BIGINT)


def decimal_arithmetic(operator: str, left: Typed, right: Typed, safe: bool) -> Typed:
    """Result types as in Spark's DecimalPrecision; digits beyond DuckDB's own rules go through exact arithmetic."""
    one, other = exact(left), exact(right)
    p1, s1, p2, s2 = one.precision, one.scale, other.precision, other.scale
    a, b = cast(left, one), cast(right, other)
    if operator in "+-":
        scale = max(s1, s2)
        kind = decimal(max(p1 - s1, p2 - s2) + scale + 1, scale)
        wide = f"CAST({{}} AS DECIMAL({kind.precision},{scale}))"
        if kind.scale == scale:
            sql = f"({wide.format(a.sql)} {operator} {wide.format(b.sql)})"
            return binary(left, right, f"CAST({sql} AS {kind.duck})", kind)
    elif operator == "*":
        kind = decimal(p1 + p2 + 1, s1 + s2)
        if p1 + p2 + 1 <= 38:
            return binary(left, right, f"CAST(({a.sql} * {b.sql}) AS {kind.duck})", kind)
    elif operator == "%":
        kind = decimal(min(p1 - s1, p2 - s2) + max(s1, s2), max(s1, s2))
        sql = f"CAST(({a.sql} % {b.sql}) AS {kind.duck})"
        return binary(left, right, guarded(sql, right, REMAINDER_BY_ZERO, safe), kind)
    else:
        scale = max(6, s1 + p2 + 1)
        kind = decimal(p1 - s1 + s2 + scale, scale)
    # `spark_decimal` is Python's decimal arithmetic on text: exact, rounded half up, NULL when safe and impossible.
    call = (
        f"spark_decimal({'/' if operator == '/' else operator!r}, CAST({a.sql} AS VARCHAR), CAST({b.sql} AS VARCHAR),"
        f" {kind.scale}, {kind.precision}, {'true' if safe else 'false'})"
    ).replace("spark_decimal(/,", "spark_decimal('/',")
    return binary(left, right, f"CAST({call} AS {kind.duck})", kind)


def add_times(operator: str, left: Typed, right: Typed) -> Typed | None:
    """Dates, moments and intervals; None when neither is one."""
    a, b = left.type, right.type
    if b.name == "INTERVAL" and (a.is_time or a == STRING):
        return add_interval(cast(left, TIMESTAMP) if a == STRING else left, right, operator)
    if a.name == "INTERVAL" and b.is_time and operator == "+":
        return add_interval(right, left, operator)
    if a.name == b.name == "INTERVAL":
        return binary(left, right, f"({left.sql} {operator} {right.sql})", wider_interval(a, b))
    if a == DATE and b.is_integer and b != BIGINT:
        return binary(left, right, f"CAST(({left.sql} {operator} {right.sql}) AS DATE)", DATE)
    if operator == "+" and b == DATE and a.is_integer and a != BIGINT:
        return binary(left, right, f"CAST(({right.sql} + {left.sql}) AS DATE)", DATE)
    if operator == "-" and a.is_time and b.is_time:
        if a == b == DATE:
            return binary(left, right, f"to_days(CAST(({left.sql} - {right.sql}) AS INTEGER))", interval("DAY"))
        kind = common(a, b) or TIMESTAMP
        one, other = cast(left, kind), cast(right, kind)
        micros = f"(epoch_us({one.sql}) - epoch_us({other.sql}))"
        return binary(left, right, f"to_microseconds({micros})", interval("DAY", "SECOND"))
    return None


def add_interval(moment: Typed, span: Typed, operator: str) -> Typed:
    """A date stays one unless hours or less are added."""
    sql = f"({moment.sql} {operator} {span.sql})"
    kind = moment.type
    if kind == DATE:
        if span.type.unit in ("DAY", "YEAR", "MONTH", "YEAR TO MONTH"):
            return binary(moment, span, f"CAST({sql} AS DATE)", DATE)
        kind = TIMESTAMP
        sql = f"({cast(moment, TIMESTAMP).sql} {operator} {span.sql})"
    return binary(moment, span, sql, kind)


def scale_interval(operator: str, left: Typed, right: Typed) -> Typed:
    span, factor = (left, right) if left.type.name == "INTERVAL" else (right, left)
    if not factor.type.is_number or (operator == "/" and span is right) or span.type.unit.startswith(("YEAR", "MONTH")):
        raise mismatch(f"The operator {operator!r}", left.type, right.type)
    micros = f"epoch_us({span.sql})" if False else f"(epoch({span.sql}) * 1000000)"
    sql = f"to_microseconds(CAST(round({micros} {operator} {factor.sql}) AS BIGINT))"
    return binary(left, right, sql, interval("DAY", "SECOND"))


def compare(operator: str, left: Typed, right: Typed) -> Typed:
    """`=`, `<>`, `<`, `IS NOT DISTINCT FROM` and the like, after both are of one type."""
    left, right = comparable(left, right)
    if operator in ("=", "<>"):
        left, right = looked_up(left, [right]), looked_up(right, [left])
    return binary(left, right, f"({left.sql} {operator} {right.sql})", BOOLEAN)


def comparable(left: Typed, right: Typed) -> tuple[Typed, Typed]:
    kind = common(left.type, right.type)
    if kind is None or {left.type.name, right.type.name} & {"MAP", "VARIANT"}:
        raise InvalidRequest(
            f"[DATATYPE_MISMATCH.BINARY_OP_DIFF_TYPES] {left.type.text:.100} and {right.type.text:.100} cannot be"
            " compared; CAST one of them (`body::string`)."
        )
    return cast(left, kind), cast(right, kind)


def negate(value: Typed) -> Typed:
    if value.type == STRING:
        value = cast(value, DOUBLE)
    if not (value.type.is_number or value.type.name == "INTERVAL"):
        raise mismatch("The operator '-'", value.type)
    constant = -value.value if isinstance(value.value, int) and not isinstance(value.value, bool) else None
    if constant is not None and value.type.is_integer:
        return Typed(f"CAST({constant} AS {value.type.duck})", value.type, constant)
    return Typed(f"(-{value.sql})", value.type, volatile=value.volatile, aggregate=value.aggregate)


def logic(operator: str, left: Typed, right: Typed) -> Typed:
    left, right = condition(left), condition(right)
    return binary(left, right, f"({left.sql} {operator} {right.sql})", BOOLEAN)


def condition(value: Typed) -> Typed:
    if value.type in (BOOLEAN, VOID):
        return cast(value, BOOLEAN)
    raise InvalidRequest(f"[DATATYPE_MISMATCH] A condition is BOOLEAN, not {value.type.text:.100}.")


def bits(operator: str, left: Typed, right: Typed) -> Typed:
    kind = common(left.type, right.type)
    if kind is None or not kind.is_integer:
        raise mismatch(f"The operator {operator!r}", left.type, right.type)
    a, b = cast(left, kind), cast(right, kind)
    sql = f"xor({a.sql}, {b.sql})" if operator == "^" else f"({a.sql} {operator} {b.sql})"
    return binary(left, right, sql, kind)


def shift(operator: str, left: Typed, right: Typed) -> Typed:
    kind = left.type if left.type == BIGINT else INT
    a, width = cast(left, kind), 64 if kind == BIGINT else 32
    by = f"({cast(right, INT).sql} & {width - 1})"
    if operator == "<<":
        wide = f"(CAST({a.sql} AS HUGEINT) * (CAST(1 AS HUGEINT) << {by}))"
        half = f"(CAST(1 AS HUGEINT) << {width - 1})"
        wrapped = f"((({wide} + {half}) & ((CAST(1 AS HUGEINT) << {width}) - 1)) - {half})"
        return binary(left, right, f"CAST({wrapped} AS {kind.duck})", kind)
    return binary(left, right, f"CAST(floor({a.sql} / pow(2, {by})) AS {kind.duck})", kind)
