"""Spark's aggregate and window functions."""

from collections.abc import Callable, Sequence

from lakemesh.errors import InvalidRequest
from lakemesh.lakehouse.embedded.sql.casts import cast, text_of
from lakemesh.lakehouse.embedded.sql.operators import condition
from lakemesh.lakehouse.embedded.sql.types import (
    BIGINT,
    BOOLEAN,
    DOUBLE,
    INT,
    STRING,
    Type,
    array,
    decimal,
)
from lakemesh.lakehouse.embedded.sql.values import Typed, constant_integer, mismatch, unsupported

Finish = Callable[..., str]


class Aggregate:
    """`calls` are DuckDB's aggregates over the arguments, to each of which FILTER and OVER are added; `finish` turns
    their texts into the value."""

    def __init__(self, call: str, kind: Type, finish: Finish | None = None, *more: str) -> None:
        self.calls, self.kind, self.finish = (call, *more), kind, finish or (lambda sql: sql)


def cast_to(kind: Type) -> Finish:
    return lambda sql: f"CAST({sql} AS {kind.duck})"


def present(sql: str) -> str:
    """The items of a list without NULL, which these functions leave out."""
    return f"list_filter(coalesce({sql}, []), lambda x_: x_ IS NOT NULL)"


REAL = {
    "stddev": "stddev_samp", "stddev_samp": "stddev_samp", "std": "stddev_samp", "stddev_pop": "stddev_pop",
    "variance": "var_samp", "var_samp": "var_samp", "var_pop": "var_pop", "kurtosis": "kurtosis_pop",
}  # fmt: skip
PAIRS = (
    "corr",
    "covar_pop",
    "covar_samp",
    "regr_slope",
    "regr_intercept",
    "regr_r2",
    "regr_sxx",
    "regr_syy",
    "regr_sxy",
    "regr_avgx",
    "regr_avgy",
)
RANKS = {"row_number": INT, "rank": INT, "dense_rank": INT, "percent_rank": DOUBLE, "cume_dist": DOUBLE}
MOVED = ("lag", "lead")
PICKED = {
    "first_value": "first_value",
    "first": "first_value",
    "last_value": "last_value",
    "last": "last_value",
    "any_value": "first_value",
}
WINDOW_ONLY = frozenset({*RANKS, *MOVED, "ntile", "nth_value"})
NAMES = frozenset(
    {
        *REAL, *PAIRS, *WINDOW_ONLY, *PICKED, "count", "count_if", "sum", "avg", "mean", "min", "max", "bool_and",
        "every", "bool_or", "some", "any", "bit_and", "bit_or", "bit_xor", "max_by", "min_by", "mode", "median",
        "percentile", "percentile_approx", "approx_percentile", "approx_count_distinct", "collect_list",
        "collect_set", "array_agg",
        "try_sum", "try_avg", "string_agg", "listagg", "percentile_cont", "percentile_disc", "regr_count", "skewness",
        "grouping", "grouping_id",
    }
)  # fmt: skip


def aggregate(name: str, values: Sequence[Typed], *, distinct: bool = False, windowed: bool = False) -> Aggregate:
    """Raises `InvalidRequest` for arguments the function does not take."""
    every = "DISTINCT " if distinct else ""
    if name == "count":
        return _count(values, distinct)
    if name in RANKS:
        return Aggregate(f"{name}()", RANKS[name], cast_to(RANKS[name]))
    if name == "grouping_id" or name == "grouping":
        kind = Type("TINYINT") if name == "grouping" else BIGINT
        return Aggregate(f"grouping({', '.join(value.sql for value in values)})", kind, cast_to(kind))
    if not values:
        raise InvalidRequest(f"[WRONG_NUM_ARGS] {name}() needs an argument.")
    value = values[0]
    if name in ("sum", "avg", "mean", "try_sum", "try_avg"):
        return _total(name, value, every)
    if name in ("min", "max"):
        if value.type.name in ("MAP", "VARIANT"):
            raise mismatch(f"{name}()", value.type)
        return Aggregate(f"{name}({value.sql})", value.type)
    if name == "count_if":
        return Aggregate(f"count(CASE WHEN {condition(value).sql} THEN 1 END)", BIGINT)
    if name in ("bool_and", "every", "bool_or", "some", "any"):
        return Aggregate(
            f"{'bool_and' if name in ('bool_and', 'every') else 'bool_or'}({condition(value).sql})", BOOLEAN
        )
    if name in ("bit_and", "bit_or", "bit_xor"):
        return Aggregate(f"{name}({value.sql})", value.type)
    if name in REAL:
        return Aggregate(f"{REAL[name]}({every}{cast(value, DOUBLE).sql})", DOUBLE)
    if name == "skewness":
        return _skewness(cast(value, DOUBLE).sql, every)
    if name in PAIRS:
        return Aggregate(f"{name}({cast(value, DOUBLE).sql}, {cast(values[1], DOUBLE).sql})", DOUBLE)
    if name == "regr_count":
        return Aggregate(
            f"regr_count({cast(value, DOUBLE).sql}, {cast(values[1], DOUBLE).sql})", BIGINT, cast_to(BIGINT)
        )
    if name in ("max_by", "min_by"):
        return Aggregate(f"arg_{name[:3]}_null({value.sql}, {values[1].sql})", value.type)
    if name == "mode":
        return Aggregate(f"mode({value.sql})", value.type)
    if name == "approx_count_distinct":
        return Aggregate(f"count(DISTINCT {value.sql})", BIGINT)
    if name in ("collect_list", "array_agg"):
        return Aggregate(f"list({every}{value.sql})", array(value.type), present)
    if name == "collect_set":
        return Aggregate(f"list(DISTINCT {value.sql})", array(value.type), present)
    if name in ("percentile", "median", "percentile_approx", "approx_percentile"):
        return _percentile(name, values)
    if name in PICKED:
        return _picked(name, values, windowed)
    if name in MOVED:
        return _moved(name, values)
    if name == "ntile":
        return Aggregate(f"ntile({constant_integer(value, 'ntile() of a number')})", INT, cast_to(INT))
    if name == "nth_value":
        return Aggregate(f"nth_value({value.sql}, {constant_integer(values[1], 'nth_value() of a place')})", value.type)
    raise unsupported(f"the function {name}() in this form")


def _count(values: Sequence[Typed], distinct: bool) -> Aggregate:
    if not values:
        return Aggregate("count(*)", BIGINT)
    if not distinct and len(values) == 1:
        return Aggregate(f"count({values[0].sql})", BIGINT)
    present = " AND ".join(f"{value.sql} IS NOT NULL" for value in values)
    row = f"row({', '.join(value.sql for value in values)})" if len(values) > 1 else values[0].sql
    return Aggregate(f"count({'DISTINCT ' if distinct else ''}CASE WHEN {present} THEN {row} END)", BIGINT)


def _total(name: str, value: Typed, every: str) -> Aggregate:
    safe, what = name.startswith("try_"), "avg" if name in ("avg", "mean", "try_avg") else "sum"
    kind = value.type
    if kind == STRING:
        value, kind = cast(value, DOUBLE), DOUBLE
    if kind.name == "VOID":
        value, kind = cast(value, DOUBLE), DOUBLE
    if not kind.is_number:
        raise mismatch(f"{name}()", kind)
    if what == "avg" and kind.name != "DECIMAL":
        return Aggregate(f"avg({every}{cast(value, DOUBLE).sql})", DOUBLE)
    if what == "avg":
        returns = decimal(kind.precision + 4, kind.scale + 4)
        # Divided exactly, since DuckDB's mean of a decimal is a double.
        count = f"count({every}{value.sql})"
        return Aggregate(f"sum({every}{value.sql})", returns, lambda total, n: _mean(total, n, returns), count)
    if kind.is_float:
        return Aggregate(f"sum({every}{cast(value, DOUBLE).sql})", DOUBLE)
    returns = decimal(kind.precision + 10, kind.scale) if kind.name == "DECIMAL" else BIGINT
    end = (lambda sql: f"TRY_CAST({sql} AS {returns.duck})") if safe else cast_to(returns)
    return Aggregate(f"sum({every}{value.sql})", returns, end)


def _mean(total: str, count: str, returns: Type) -> str:
    digits = f"{returns.scale}, {returns.precision}"
    divided = f"spark_decimal('/', CAST({total} AS VARCHAR), CAST({count} AS VARCHAR), {digits}, false)"
    return f"CAST((CASE WHEN {count} = 0 THEN NULL ELSE {divided} END) AS {returns.duck})"


def _skewness(sql: str, every: str) -> Aggregate:
    """Spark's is the population's; DuckDB's is corrected for the sample's size, which is taken back."""

    def finish(found: str, n: str) -> str:
        few = f"(CASE {n} WHEN 0 THEN NULL WHEN 1 THEN CAST('NaN' AS DOUBLE) ELSE 0.0 END)"
        return f"(CASE WHEN {n} < 3 THEN {few} ELSE {found} * ({n} - 2) / sqrt(CAST({n} AS DOUBLE) * ({n} - 1)) END)"

    return Aggregate(f"skewness({every}{sql})", DOUBLE, finish, f"count({every}{sql})")


def _percentile(name: str, values: Sequence[Typed]) -> Aggregate:
    value, wanted = values[0], "0.5"
    kind: Type = DOUBLE
    if len(values) > 1:
        wanted = values[1].sql
        if not values[1].is_constant and values[1].type.name != "ARRAY":
            raise unsupported(f"{name}() of a share that is not constant")
    exact = name in ("percentile", "median")
    share = (
        f"CAST({wanted} AS DOUBLE[])"
        if len(values) > 1 and values[1].type.name == "ARRAY"
        else f"CAST({wanted} AS DOUBLE)"
    )
    if exact:
        call = f"quantile_cont({cast(value, DOUBLE).sql}, {share})"
    else:
        kind, call = value.type, f"quantile_disc({value.sql}, {share})"
    if len(values) > 1 and values[1].type.name == "ARRAY":
        kind = array(kind)
    return Aggregate(call, kind)


def within_group(name: str, share: Typed, value: Typed, descending: bool) -> Aggregate:
    if not share.is_constant:
        raise unsupported(f"{name}() of a share that is not constant")
    function = "quantile_cont" if name == "percentile_cont" else "quantile_disc"
    part = f"CAST({share.sql} AS DOUBLE)"
    wanted = f"1 - {part}" if descending else part
    return Aggregate(f"{function}({cast(value, DOUBLE).sql}, {wanted})", DOUBLE)


def joined_text(value: Typed, separator: str, order: str, distinct: bool) -> Aggregate:
    every = "DISTINCT " if distinct else ""
    return Aggregate(f"string_agg({every}{text_of(value)}, {separator}{order})", STRING)


def _picked(name: str, values: Sequence[Typed], windowed: bool) -> Aggregate:
    value = values[0]
    skip = len(values) > 1 and values[1].value is True
    if windowed:
        return Aggregate(f"{PICKED[name]}({value.sql}{' IGNORE NULLS' if skip else ''})", value.type)
    function = "last" if name.startswith("last") else "first"
    return Aggregate(f"{'any_value' if skip and function == 'first' else function}({value.sql})", value.type)


def _moved(name: str, values: Sequence[Typed]) -> Aggregate:
    value, *rest = values
    by = constant_integer(rest[0], f"{name}() by a number") if rest else 1
    default = f", {cast(rest[1], value.type).sql}" if len(rest) > 1 else ""
    return Aggregate(f"{name}({value.sql}, {by}{default})", value.type)
