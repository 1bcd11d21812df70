"""Functions of dates, moments and intervals that depend on constants: formats, units."""

from collections.abc import Sequence

from lakemesh.errors import InvalidRequest
from lakemesh.lakehouse.embedded.sql.casts import cast
from lakemesh.lakehouse.embedded.sql.datetimes import strftime_format
from lakemesh.lakehouse.embedded.sql.registry import BUILT, built, convert
from lakemesh.lakehouse.embedded.sql.types import (
    BIGINT,
    DATE,
    DOUBLE,
    INT,
    STRING,
    TIMESTAMP,
    TIMESTAMP_NTZ,
    Type,
    decimal,
    interval,
    text_literal,
)
from lakemesh.lakehouse.embedded.sql.values import Typed, constant_text, unsupported

UNITS = {
    "YEAR": "year", "YEARS": "year", "QUARTER": "quarter", "MONTH": "month", "MONTHS": "month", "WEEK": "week",
    "WEEKS": "week", "DAY": "day", "DAYS": "day", "HOUR": "hour", "HOURS": "hour", "MINUTE": "minute",
    "MINUTES": "minute", "SECOND": "second", "SECONDS": "second", "MILLISECOND": "millisecond",
    "MICROSECOND": "microsecond",
}  # fmt: skip
TRUNCATED = {
    "YEAR": "year", "YYYY": "year", "YY": "year", "QUARTER": "quarter", "MONTH": "month", "MM": "month", "MON": "month",
    "WEEK": "week", "DAY": "day", "DD": "day", "HOUR": "hour", "MINUTE": "minute", "SECOND": "second",
    "MILLISECOND": "millisecond", "MICROSECOND": "microsecond",
}  # fmt: skip
MICROS = {"microsecond": 1, "millisecond": 1_000, "second": 10**6, "minute": 60 * 10**6, "hour": 3_600 * 10**6,
          "day": 86_400 * 10**6, "week": 7 * 86_400 * 10**6}  # fmt: skip
EXTRACTED = {
    "YEAR": "year", "YEARS": "year", "Y": "year", "YEAROFWEEK": "isoyear", "QUARTER": "quarter", "MONTH": "month",
    "MONTHS": "month", "MON": "month", "WEEK": "week", "WEEKS": "week", "W": "week", "DAY": "day",
    "DAYS": "day", "D": "day", "DOY": "dayofyear", "HOUR": "hour", "HOURS": "hour", "MINUTE": "minute",
    "MINUTES": "minute",
}  # fmt: skip


def unit_of(value: Typed) -> str:
    name = str(value.value).upper()
    if name not in UNITS:
        raise InvalidRequest(f"[INVALID_PARAMETER_VALUE.DATETIME_UNIT] {name!r:.40} is not a unit of time.")
    return UNITS[name]


def moment(value: Typed, name: str) -> Typed:
    """A TIMESTAMP, with or without a zone, out of a date, a moment or text."""
    return value if value.type in (TIMESTAMP, TIMESTAMP_NTZ) else convert(value, TIMESTAMP, name)


@built("extract", "date_part", "datepart")
def extract(values: Sequence[Typed]) -> Typed:
    field, value = values
    part = str(field.value).upper()
    if value.type.name == "INTERVAL":
        raise unsupported("extract() from an INTERVAL")
    if part in ("SECOND", "SECONDS", "S", "SEC"):
        micros = f"CAST((epoch_us({moment(value, 'extract').sql}) % 60000000 + 60000000) % 60000000 AS DECIMAL(14,6))"
        return Typed(f"CAST({micros} / 1000000 AS DECIMAL(8,6))", decimal(8, 6))
    if part in ("DAYOFWEEK", "DOW"):
        return Typed(f"CAST(dayofweek({convert(value, DATE, 'extract').sql}) + 1 AS INTEGER)", INT)
    if part in ("DAYOFWEEK_ISO", "DOW_ISO"):
        return Typed(f"CAST(isodow({convert(value, DATE, 'extract').sql}) AS INTEGER)", INT)
    if part not in EXTRACTED:
        raise InvalidRequest(f"[INVALID_EXTRACT_FIELD] Cannot extract {part!r:.40}.")
    kind = moment(value, "extract") if "HOUR" in part or "MIN" in part else convert(value, DATE, "extract")
    return Typed(f"CAST({EXTRACTED[part]}({kind.sql}) AS INTEGER)", INT)


@built("dateadd", "timestampadd", "date_add")
def dateadd(values: Sequence[Typed]) -> Typed:
    if len(values) == 2:
        day, count = values
        if count.type.name == "INTERVAL":
            from lakemesh.lakehouse.embedded.sql.operators import add_interval

            return add_interval(convert(day, DATE, "date_add"), count, "+")
        return Typed(
            f"CAST({convert(day, DATE, 'date_add').sql} + {convert(count, INT, 'date_add').sql} AS DATE)", DATE
        )
    unit, count, start = values
    name = unit_of(unit)
    number = convert(count, BIGINT, "dateadd").sql
    if name == "quarter":
        span = f"to_months(CAST(3 * {number} AS INTEGER))"
    elif name in ("year", "month", "week", "day"):
        span = f"to_{name}s(CAST({number} AS INTEGER))"
    else:
        span = f"to_{name}s({number})"
    value = moment(start, "dateadd")
    return Typed(f"({value.sql} + {span})", value.type)


@built("datediff", "date_diff", "timestampdiff")
def datediff(values: Sequence[Typed]) -> Typed:
    """Whole units between two moments, cut towards zero."""
    if len(values) == 2:
        end, start = values
        return Typed(
            f"CAST({convert(end, DATE, 'datediff').sql} - {convert(start, DATE, 'datediff').sql} AS INTEGER)", INT
        )
    unit, start, end = values
    name, one, other = unit_of(unit), moment(start, "datediff"), moment(end, "datediff")
    if one.type != other.type:
        one, other = cast(one, TIMESTAMP), cast(other, TIMESTAMP)
    if name in MICROS:
        return Typed(f"((epoch_us({other.sql}) - epoch_us({one.sql})) // {MICROS[name]})", BIGINT)
    months = whole_months(one.sql, other.sql)
    return Typed(f"CAST(({months}) // {({'year': 12, 'quarter': 3, 'month': 1})[name]} AS BIGINT)", BIGINT)


def whole_months(start: str, end: str) -> str:
    naive = [f"CAST({sql} AS TIMESTAMP)" for sql in (start, end)]
    first, second = naive
    boundaries = f"date_diff('month', {first}, {second})"
    rest = [f"(epoch_us({sql}) - epoch_us(date_trunc('month', {sql})))" for sql in naive]
    return (
        f"{boundaries} - (CASE WHEN {second} >= {first} AND {rest[1]} < {rest[0]} THEN 1"
        f" WHEN {second} < {first} AND {rest[1]} > {rest[0]} THEN -1 ELSE 0 END)"
    )


@built("months_between")
def months_between(values: Sequence[Typed]) -> Typed:
    """As Spark: whole months on equal days or two last days, otherwise with a fraction of 31 days, to eight places."""
    if len(values) > 2:
        raise unsupported("months_between() without rounding")
    one, other = (f"CAST({convert(value, TIMESTAMP, 'months_between').sql} AS TIMESTAMP)" for value in values)
    months = f"((year({one}) - year({other})) * 12 + month({one}) - month({other}))"
    last = " AND ".join(f"CAST({sql} AS DATE) = last_day({sql})" for sql in (one, other))
    seconds = [
        f"((day({sql}) - 1) * 86400 + hour({sql}) * 3600 + minute({sql}) * 60 + floor(second({sql})))"
        for sql in (one, other)
    ]
    fraction = f"({seconds[0]} - {seconds[1]}) / 2678400.0"
    return Typed(
        f"(CASE WHEN day({one}) = day({other}) OR ({last}) THEN CAST({months} AS DOUBLE)"
        f" ELSE round({months} + CAST({fraction} AS DOUBLE), 8) END)",
        DOUBLE,
    )


@built("next_day")
def next_day(values: Sequence[Typed]) -> Typed:
    day, name = values
    days = ("MO", "TU", "WE", "TH", "FR", "SA", "SU")
    wanted = constant_text(name, "next_day() of a day").upper()[:2]
    if wanted not in days:
        raise InvalidRequest(f"[ILLEGAL_DAY_OF_WEEK] {name.value!r:.40} is not a day of the week.")
    sql = convert(day, DATE, "next_day").sql
    return Typed(
        f"CAST({sql} + CAST((({days.index(wanted)} - (isodow({sql}) - 1) + 6) % 7) + 1 AS INTEGER) AS DATE)", DATE
    )


@built("trunc")
def trunc(values: Sequence[Typed]) -> Typed:
    day, unit = values
    name = constant_text(unit, "trunc() to a unit").upper()
    if TRUNCATED.get(name) not in ("year", "quarter", "month", "week"):
        return Typed("CAST(NULL AS DATE)", DATE, None)
    return Typed(f"CAST(date_trunc('{TRUNCATED[name]}', {convert(day, DATE, 'trunc').sql}) AS DATE)", DATE)


@built("date_trunc")
def date_trunc(values: Sequence[Typed]) -> Typed:
    unit, value = values
    name = constant_text(unit, "date_trunc() to a unit").upper()
    kind = moment(value, "date_trunc")
    if name not in TRUNCATED:
        return Typed(f"CAST(NULL AS {kind.type.duck})", kind.type, None)
    return Typed(f"date_trunc('{TRUNCATED[name]}', {kind.sql})", kind.type)


def formatted(sql: str, pattern: str) -> str:
    """A moment by Spark's datetime pattern."""
    parts = []
    for piece in strftime_format(pattern):
        if piece.startswith("%"):
            parts.append(f"strftime({sql}, '{piece}')")
        elif piece == "Q":
            parts.append(f"CAST(quarter({sql}) AS VARCHAR)")
        else:
            parts.append(text_literal(piece[1:]))
    return f"({' || '.join(parts)})" if parts else "''"


@built("date_format")
def date_format(values: Sequence[Typed]) -> Typed:
    value, pattern = values
    sql = moment(value, "date_format").sql
    return Typed(formatted(sql, constant_text(pattern, "date_format() by a pattern")), STRING)


@built("to_char", "to_varchar")
def to_char(values: Sequence[Typed]) -> Typed:
    value, pattern = values
    if not value.type.is_time:
        raise unsupported("to_char() of a number")
    return date_format([value, pattern])


@built("from_unixtime")
def from_unixtime(values: Sequence[Typed]) -> Typed:
    seconds, *rest = values
    pattern = constant_text(rest[0], "from_unixtime() by a pattern") if rest else "yyyy-MM-dd HH:mm:ss"
    sql = f"make_timestamptz({convert(seconds, BIGINT, 'from_unixtime').sql} * 1000000)"
    return Typed(formatted(sql, pattern), STRING)


def strptime_format(pattern: str) -> str:
    pieces = strftime_format(pattern)
    if "Q" in pieces or any(piece in ("%-j", "%j") for piece in pieces):
        raise unsupported(f"reading dates by the pattern {pattern!r}")
    return "".join(piece if piece.startswith("%") else piece[1:].replace("%", "%%") for piece in pieces)


def parsed(values: Sequence[Typed], kind: Type, *, safe: bool) -> Typed:
    value, *rest = values
    if not rest:
        return cast(value, kind, safe=safe) if value.type != BIGINT else cast(value, kind)
    form = text_literal(strptime_format(constant_text(rest[0], "reading dates by a pattern")))
    sql = convert(value, STRING, "to_timestamp").sql
    made = f"try_strptime({sql}, {form})"
    if not safe:
        failed = f"error('[CANNOT_PARSE_TIMESTAMP] The text ''' || left({sql}, 60) || ''' is not of its pattern.')"
        made = f"(CASE WHEN {sql} IS NULL THEN NULL WHEN {made} IS NULL THEN {failed} ELSE {made} END)"
    return Typed(f"CAST({made} AS {kind.duck})", kind)


@built("to_date")
def to_date(values: Sequence[Typed]) -> Typed:
    return parsed(values, DATE, safe=False)


@built("try_to_date")
def try_to_date(values: Sequence[Typed]) -> Typed:
    return parsed(values, DATE, safe=True)


@built("to_timestamp", "to_timestamp_ltz")
def to_timestamp(values: Sequence[Typed]) -> Typed:
    return parsed(values, TIMESTAMP, safe=False)


@built("try_to_timestamp")
def try_to_timestamp(values: Sequence[Typed]) -> Typed:
    return parsed(values, TIMESTAMP, safe=True)


@built("to_timestamp_ntz")
def to_timestamp_ntz(values: Sequence[Typed]) -> Typed:
    return parsed(values, TIMESTAMP_NTZ, safe=False)


@built("unix_timestamp", "to_unix_timestamp")
def unix_timestamp(values: Sequence[Typed]) -> Typed:
    value = Typed("now()", TIMESTAMP) if not values else values[0]
    if value.type == STRING:
        value = parsed(values, TIMESTAMP, safe=False)
    sql = convert(value, TIMESTAMP, "unix_timestamp").sql
    return Typed(f"CAST(floor(epoch_us({sql}) / 1000000) AS BIGINT)", BIGINT)


@built("make_timestamp")
def make_timestamp(values: Sequence[Typed]) -> Typed:
    year, month, day, hour, minute = (cast(value, INT).sql for value in values[:5])
    exact = cast(values[5], DOUBLE).sql
    return Typed(f"CAST(make_timestamp({year}, {month}, {day}, {hour}, {minute}, {exact}) AS TIMESTAMPTZ)", TIMESTAMP)


@built("make_interval")
def make_interval(values: Sequence[Typed]) -> Typed:
    """Months, days and time in one, which only adding to a moment takes."""
    names = ("years", "months", "weeks", "days", "hours", "minutes", "seconds")
    parts = []
    for name, value in zip(names, values, strict=False):
        number = cast(value, DOUBLE if name == "seconds" else INT).sql
        parts.append(f"to_{name}({number})")
    return Typed(f"({' + '.join(parts) or 'to_days(0)'})", Type("INTERVAL", unit="MONTH TO SECOND"))


@built("window_start")
def window_start(values: Sequence[Typed]) -> Typed:
    """The start of the fixed window of so many microseconds, counted from 1970."""
    value, size = values
    micros = f"epoch_us({convert(value, TIMESTAMP, 'window').sql})"
    start = f"({micros} - (({micros} % {size.value}) + {size.value}) % {size.value})"
    return Typed(f"make_timestamptz({start})", TIMESTAMP)


DAY_INTERVAL = interval("DAY")
__all__ = ["BUILT", "DAY_INTERVAL"]
