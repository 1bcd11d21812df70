"""Spark's scalar functions that are one expression in DuckDB: name, parameters, type and text."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from lakemesh.lakehouse.embedded.sql.types import (
    BIGINT,
    BINARY,
    BOOLEAN,
    DATE,
    DOUBLE,
    FLOAT,
    INT,
    STRING,
    TIMESTAMP,
    TIMESTAMP_NTZ,
    VARIANT,
    Type,
    array,
    interval,
    map_of,
)

Returns = Type | Callable[..., Type]
CODES: Mapping[str, Type | None] = {
    "s": STRING, "i": INT, "l": BIGINT, "d": DOUBLE, "b": BOOLEAN, "D": DATE, "T": TIMESTAMP, "N": TIMESTAMP_NTZ,
    "y": BINARY, "v": VARIANT, ".": None,
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Scalar:
    """`parameters` is a letter for each (see `CODES`); a dot takes any type."""

    parameters: str
    returns: Returns
    text: str
    volatile: bool = False


def same(first: Type, *_: Type) -> Type:
    return first


SECONDS = "CAST(floor(epoch_us({0}) / 1000000) AS BIGINT)"
PARTS = {
    "year": "year", "quarter": "quarter", "month": "month", "day": "day", "dayofmonth": "day", "dayofyear": "dayofyear",
    "weekofyear": "week",
}  # fmt: skip
MATH = (
    "sin", "cos", "tan", "asin", "acos", "atan", "sinh", "cosh", "tanh", "asinh", "acosh", "atanh", "cbrt", "degrees",
    "radians", "cot", "exp",
)  # fmt: skip

SCALARS: dict[str, tuple[Scalar, ...]] = {
    # Text
    "upper": (Scalar("s", STRING, "upper(replace({0}, 'ß', 'SS'))"),),
    "ucase": (Scalar("s", STRING, "upper(replace({0}, 'ß', 'SS'))"),),
    "lower": (Scalar("s", STRING, "lower({0})"),),
    "lcase": (Scalar("s", STRING, "lower({0})"),),
    "initcap": (Scalar("s", STRING, "spark_initcap({0})"),),
    "char_length": (Scalar("s", INT, "CAST(length({0}) AS INTEGER)"),),
    "character_length": (Scalar("s", INT, "CAST(length({0}) AS INTEGER)"),),
    "bit_length": (Scalar("y", INT, "CAST(octet_length({0}) * 8 AS INTEGER)"),),
    "octet_length": (Scalar("y", INT, "CAST(octet_length({0}) AS INTEGER)"),),
    "ltrim": (Scalar("s", STRING, "ltrim({0}, ' ')"), Scalar("ss", STRING, "ltrim({1}, {0})")),
    "rtrim": (Scalar("s", STRING, "rtrim({0}, ' ')"), Scalar("ss", STRING, "rtrim({1}, {0})")),
    "btrim": (Scalar("s", STRING, "trim({0}, ' ')"), Scalar("ss", STRING, "trim({0}, {1})")),
    "left": (Scalar("si", STRING, "(CASE WHEN {1} <= 0 THEN '' ELSE left({0}, {1}) END)"),),
    "right": (Scalar("si", STRING, "(CASE WHEN {1} <= 0 THEN '' ELSE right({0}, {1}) END)"),),
    "replace": (Scalar("sss", STRING, "replace({0}, {1}, {2})"), Scalar("ss", STRING, "replace({0}, {1}, '')")),
    "instr": (Scalar("ss", INT, "CAST(instr({0}, {1}) AS INTEGER)"),),
    "contains": (Scalar("ss", BOOLEAN, "contains({0}, {1})"),),
    "startswith": (Scalar("ss", BOOLEAN, "starts_with({0}, {1})"),),
    "endswith": (Scalar("ss", BOOLEAN, "ends_with({0}, {1})"),),
    "ascii": (Scalar("s", INT, "(CASE WHEN {0} = '' THEN 0 ELSE ascii({0}) END)"),),
    "chr": (Scalar("l", STRING, "(CASE WHEN {0} < 0 THEN '' ELSE chr(CAST({0} % 256 AS INTEGER)) END)"),),
    "char": (Scalar("l", STRING, "(CASE WHEN {0} < 0 THEN '' ELSE chr(CAST({0} % 256 AS INTEGER)) END)"),),
    "base64": (Scalar("y", STRING, "to_base64({0})"),),
    "unbase64": (Scalar("s", BINARY, "from_base64({0})"),),
    "unhex": (Scalar("s", BINARY, "unhex(CASE WHEN length({0}) % 2 = 1 THEN '0' || {0} ELSE {0} END)"),),
    "md5": (Scalar("y", STRING, "md5({0})"),),
    "sha": (Scalar("y", STRING, "sha1({0})"),),
    "sha1": (Scalar("y", STRING, "sha1({0})"),),
    "crc32": (Scalar("y", BIGINT, "spark_crc32({0})"),),
    "soundex": (Scalar("s", STRING, "spark_soundex({0})"),),
    "levenshtein": (Scalar("ss", INT, "CAST(levenshtein({0}, {1}) AS INTEGER)"),),
    "luhn_check": (Scalar("s", BOOLEAN, "spark_luhn({0})"),),
    "mask": (Scalar("s", STRING, "spark_mask({0})"),),
    "url_encode": (Scalar("s", STRING, "spark_url_encode({0})"),),
    "url_decode": (Scalar("s", STRING, "spark_url_decode({0})"),),
    "parse_url": (
        Scalar("ss", STRING, "spark_parse_url({0}, {1}, NULL)"),
        Scalar("sss", STRING, "spark_parse_url({0}, {1}, {2})"),
    ),
    "conv": (Scalar("sii", STRING, "spark_conv({0}, {1}, {2})"),),
    "translate": (Scalar("sss", STRING, "translate({0}, {1}, {2})"),),
    "uuid": (Scalar("", STRING, "CAST(uuid() AS VARCHAR)", True),),
    "split_part": (
        Scalar(
            "ssi",
            STRING,
            "(CASE WHEN {2} = 0 THEN error('[INVALID_INDEX_OF_ZERO] The index 0 is invalid.')"
            " ELSE split_part({0}, {1}, {2}) END)",
        ),
    ),
    "substring_index": (
        Scalar(
            "ssi",
            STRING,
            "(CASE WHEN {2} > 0 THEN array_to_string(string_split({0}, {1})[:{2}], {1}) WHEN {2} < 0 THEN"
            " array_to_string(string_split({0}, {1})[{2}:], {1}) ELSE '' END)",
        ),
    ),
    "find_in_set": (
        Scalar(
            "ss",
            INT,
            "(CASE WHEN contains({0}, ',') THEN 0"
            " ELSE CAST(coalesce(list_position(string_split({1}, ','), {0}), 0) AS INTEGER) END)",
        ),
    ),
    "encode": (Scalar("ss", BINARY, "encode({0})"),),
    "space": (Scalar("i", STRING, "repeat(' ', {0})"),),
    # Numbers
    **{name: (Scalar("d", DOUBLE, f"{name}({{0}})"),) for name in MATH},
    "sqrt": (Scalar("d", DOUBLE, "(CASE WHEN {0} < 0 THEN CAST('NaN' AS DOUBLE) ELSE sqrt({0}) END)"),),
    "asin": (Scalar("d", DOUBLE, "(CASE WHEN abs({0}) > 1 THEN CAST('NaN' AS DOUBLE) ELSE asin({0}) END)"),),
    "acos": (Scalar("d", DOUBLE, "(CASE WHEN abs({0}) > 1 THEN CAST('NaN' AS DOUBLE) ELSE acos({0}) END)"),),
    "ln": (Scalar("d", DOUBLE, "(CASE WHEN {0} > 0 THEN ln({0}) END)"),),
    "log10": (Scalar("d", DOUBLE, "(CASE WHEN {0} > 0 THEN log10({0}) END)"),),
    "log2": (Scalar("d", DOUBLE, "(CASE WHEN {0} > 0 THEN log2({0}) END)"),),
    "log1p": (Scalar("d", DOUBLE, "(CASE WHEN {0} > -1 THEN ln(1 + {0}) END)"),),
    "expm1": (Scalar("d", DOUBLE, "(exp({0}) - 1)"),),
    "log": (
        Scalar("d", DOUBLE, "(CASE WHEN {0} > 0 THEN ln({0}) END)"),
        Scalar("dd", DOUBLE, "(CASE WHEN {0} > 0 AND {1} > 0 THEN ln({1}) / ln({0}) END)"),
    ),
    "pow": (Scalar("dd", DOUBLE, "pow({0}, {1})"),),
    "power": (Scalar("dd", DOUBLE, "pow({0}, {1})"),),
    "atan2": (Scalar("dd", DOUBLE, "atan2({0}, {1})"),),
    "hypot": (Scalar("dd", DOUBLE, "sqrt({0} * {0} + {1} * {1})"),),
    "sec": (Scalar("d", DOUBLE, "(1 / cos({0}))"),),
    "csc": (Scalar("d", DOUBLE, "(1 / sin({0}))"),),
    "e": (Scalar("", DOUBLE, "exp(1)"),),
    "pi": (Scalar("", DOUBLE, "pi()"),),
    "rint": (Scalar("d", DOUBLE, "round_even({0}, 0)"),),
    "sign": (Scalar("d", DOUBLE, "CAST(sign({0}) AS DOUBLE)"),),
    "signum": (Scalar("d", DOUBLE, "CAST(sign({0}) AS DOUBLE)"),),
    "factorial": (Scalar("i", BIGINT, "(CASE WHEN {0} BETWEEN 0 AND 20 THEN CAST({0}! AS BIGINT) END)"),),
    "bin": (
        Scalar(
            "l",
            STRING,
            "(CASE WHEN {0} = 0 THEN '0' WHEN {0} > 0 THEN ltrim(bin({0}), '0') ELSE bin({0}) END)",
        ),
    ),
    "width_bucket": (
        Scalar(
            "dddl",
            BIGINT,
            "(CASE WHEN {3} <= 0 OR {1} = {2} THEN NULL WHEN {1} < {2} THEN (CASE WHEN {0} < {1} THEN 0"
            " WHEN {0} >= {2} THEN {3} + 1 ELSE CAST(floor({3} * ({0} - {1}) / ({2} - {1})) AS BIGINT) + 1 END)"
            " ELSE (CASE WHEN {0} > {1} THEN 0 WHEN {0} <= {2} THEN {3} + 1"
            " ELSE CAST(floor({3} * ({1} - {0}) / ({1} - {2})) AS BIGINT) + 1 END) END)",
        ),
    ),
    "isnan": (Scalar("d", BOOLEAN, "coalesce(isnan({0}), false)"),),
    "nanvl": (Scalar("dd", DOUBLE, "(CASE WHEN isnan({0}) THEN {1} ELSE {0} END)"),),
    "rand": (Scalar("", DOUBLE, "random()", True), Scalar("l", DOUBLE, "random()", True)),
    "random": (Scalar("", DOUBLE, "random()", True), Scalar("l", DOUBLE, "random()", True)),
    # Dates
    **{name: (Scalar("D", INT, f"CAST({part}({{0}}) AS INTEGER)"),) for name, part in PARTS.items()},
    "dayofweek": (Scalar("D", INT, "CAST(dayofweek({0}) + 1 AS INTEGER)"),),
    "weekday": (Scalar("D", INT, "CAST(isodow({0}) - 1 AS INTEGER)"),),
    "dayname": (Scalar("D", STRING, "strftime({0}, '%a')"),),
    "monthname": (Scalar("D", STRING, "strftime({0}, '%b')"),),
    "last_day": (Scalar("D", DATE, "last_day({0})"),),
    "add_months": (Scalar("Di", DATE, "CAST({0} + to_months({1}) AS DATE)"),),
    "date_add": (Scalar("Di", DATE, "CAST({0} + {1} AS DATE)"),),
    "date_sub": (Scalar("Di", DATE, "CAST({0} - {1} AS DATE)"),),
    "datediff": (Scalar("DD", INT, "CAST({0} - {1} AS INTEGER)"),),
    "date_diff": (Scalar("DD", INT, "CAST({0} - {1} AS INTEGER)"),),
    "unix_date": (Scalar("D", INT, "CAST({0} - DATE '1970-01-01' AS INTEGER)"),),
    "date_from_unix_date": (Scalar("i", DATE, "CAST(DATE '1970-01-01' + {0} AS DATE)"),),
    "hour": (Scalar("T", INT, "CAST(hour({0}) AS INTEGER)"),),
    "minute": (Scalar("T", INT, "CAST(minute({0}) AS INTEGER)"),),
    "second": (Scalar("T", INT, "CAST(second({0}) AS INTEGER)"),),
    "timestamp_seconds": (
        Scalar("l", TIMESTAMP, "make_timestamptz({0} * 1000000)"),
        Scalar("d", TIMESTAMP, "make_timestamptz(CAST(trunc({0} * 1000000) AS BIGINT))"),
    ),
    "timestamp_millis": (Scalar("l", TIMESTAMP, "make_timestamptz({0} * 1000)"),),
    "timestamp_micros": (Scalar("l", TIMESTAMP, "make_timestamptz({0})"),),
    "unix_seconds": (Scalar("T", BIGINT, SECONDS),),
    "unix_millis": (Scalar("T", BIGINT, "CAST(floor(epoch_us({0}) / 1000) AS BIGINT)"),),
    "unix_micros": (Scalar("T", BIGINT, "epoch_us({0})"),),
    "make_date": (Scalar("iii", DATE, "make_date({0}, {1}, {2})"),),
    "current_date": (Scalar("", DATE, "current_date"),),
    "curdate": (Scalar("", DATE, "current_date"),),
    "current_timestamp": (Scalar("", TIMESTAMP, "now()"),),
    "now": (Scalar("", TIMESTAMP, "now()"),),
    "current_timezone": (Scalar("", STRING, "'Etc/UTC'"),),
    "from_utc_timestamp": (Scalar("Ts", TIMESTAMP, "CAST(timezone({1}, {0}) AS TIMESTAMPTZ)"),),
    "to_utc_timestamp": (Scalar("Ts", TIMESTAMP, "timezone({1}, CAST({0} AS TIMESTAMP))"),),
    "convert_timezone": (
        Scalar("ssN", TIMESTAMP_NTZ, "timezone({1}, timezone({0}, {2}))"),
        Scalar("sN", TIMESTAMP_NTZ, "timezone({0}, CAST({1} AS TIMESTAMPTZ))"),
    ),
    "make_dt_interval": (
        Scalar("i", interval("DAY", "SECOND"), "to_days({0})"),
        Scalar("ii", interval("DAY", "SECOND"), "to_days({0}) + to_hours({1})"),
        Scalar("iii", interval("DAY", "SECOND"), "to_days({0}) + to_hours({1}) + to_minutes({2})"),
        Scalar("iiid", interval("DAY", "SECOND"), "to_days({0}) + to_hours({1}) + to_minutes({2}) + to_seconds({3})"),
    ),
    # JSON
    "json_array_length": (
        Scalar(
            "s",
            INT,
            "(CASE WHEN json_valid({0}) AND json_type({0}) = 'ARRAY' THEN CAST(json_array_length({0}) AS INTEGER) END)",
        ),
    ),
    "json_object_keys": (
        Scalar("s", array(STRING), "(CASE WHEN json_valid({0}) AND json_type({0}) = 'OBJECT' THEN json_keys({0}) END)"),
    ),
    "parse_json": (
        Scalar(
            "s",
            VARIANT,
            "(CASE WHEN {0} IS NULL THEN NULL WHEN json_valid({0}) THEN CAST({0} AS JSON) ELSE"
            " error('[MALFORMED_RECORD_IN_PARSING] The text is not JSON: ' || left({0}, 100)) END)",
        ),
    ),
    "try_parse_json": (Scalar("s", VARIANT, "(CASE WHEN json_valid({0}) THEN CAST({0} AS JSON) END)"),),
    "is_variant_null": (Scalar("v", BOOLEAN, "coalesce(json_type({0}) = 'NULL', false)"),),
    "str_to_map": (
        Scalar(
            "sss",
            map_of(STRING, STRING),
            "map_from_entries(list_transform(string_split_regex({0}, {1}), lambda x_:"
            " {{'k': string_split_regex(x_, {2})[1], 'v': string_split_regex(x_, {2})[2]}}))",
        ),
    ),
    "xxhash64": (Scalar("s", BIGINT, "spark_xxhash64({0})"),),
    "monotonically_increasing_id": (Scalar("", BIGINT, "(row_number() OVER () - 1)", True),),
    "version": (Scalar("", STRING, "'4.3.0'"),),
    "float": (Scalar("d", FLOAT, "CAST({0} AS FLOAT)"),),
}
