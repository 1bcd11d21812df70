"""From the Databricks dialect to DuckDB's, where sqlglot alone does not get it right."""

from functools import reduce
from typing import TYPE_CHECKING

from lakemesh.errors import InvalidRequest

if TYPE_CHECKING:
    from sqlglot import exp

MICROSECONDS = {"timestamp_millis": 1_000, "timestamp_micros": 1}


def to_duckdb(statement: "exp.Expr") -> str:
    """The statement as DuckDB text. It is changed in place."""
    from sqlglot import exp

    for node in reversed(list(statement.walk())):  # the innermost first, as what replaces a node keeps its children
        rewritten = _rewrite(node)
        if rewritten is not node:
            node.replace(rewritten)
    for column in statement.find_all(exp.Column):
        column.set("db", None)
        column.set("catalog", None)
    return statement.sql(dialect="duckdb")


def _rewrite(node: "exp.Expr") -> "exp.Expr":
    from sqlglot import exp

    if isinstance(node, exp.JSONExtract) and (isinstance(node.parent, exp.Cast) or _is_compared_with_text(node)):
        # `v:a.b::string` and `v:a.b = 'x'` mean the text itself; DuckDB's `->` would give it as JSON, in quotes.
        return exp.JSONExtractScalar(this=node.this, expression=node.expression)
    if (
        isinstance(node, exp.Cast)
        and node.to.this == exp.DType.TIMESTAMP
        and not isinstance(node.parent, exp.AtTimeZone)
    ):
        # What sqlglot makes of to_timestamp(text), which in Databricks is a moment, not a time without a zone.
        node.set("to", exp.DataType.build("TIMESTAMPTZ", dialect="duckdb"))
        return node
    if isinstance(node, exp.StrToTime):
        return exp.cast(node.copy(), "TIMESTAMPTZ", dialect="duckdb")
    if isinstance(node, exp.TsOrDsAdd) and node.text("unit").upper() == "DAY":
        return exp.cast(node.copy(), "DATE", dialect="duckdb")
    if isinstance(node, exp.MakeInterval):
        return _interval(node)
    if isinstance(node, exp.FromJson):
        return _from_json(node)
    if isinstance(node, exp.Anonymous):
        name, arguments = node.name.lower(), node.expressions
        if name in ("variant_get", "try_variant_get") and len(arguments) in (2, 3):
            return _variant_get(name, arguments)
        if name == "try_parse_json" and len(arguments) == 1:
            return exp.TryCast(this=arguments[0], to=exp.DataType.build("JSON", dialect="duckdb"))
        if name == "timestamp_seconds" and len(arguments) == 1:
            return exp.Anonymous(this="to_timestamp", expressions=arguments)
        if name in MICROSECONDS and len(arguments) == 1:
            micros = exp.cast(arguments[0] * MICROSECONDS[name], "BIGINT", dialect="duckdb")
            return exp.Anonymous(this="make_timestamptz", expressions=[micros])
        if name == "percentile" and len(arguments) == 2:
            return exp.Anonymous(this="quantile_cont", expressions=arguments)
    if isinstance(node, exp.StrToUnix) and "strict" in node.args["format"].name:
        # Without a format of its own, unix_timestamp takes a timestamp, or text in the standard form.
        moment = exp.cast(node.this, "TIMESTAMPTZ", dialect="duckdb")
        return exp.cast(exp.Anonymous(this="epoch", expressions=[moment]), "BIGINT")
    if isinstance(node, exp.Quantile):
        # Spark's percentile interpolates, which DuckDB's quantile does not.
        return exp.Anonymous(this="quantile_cont", expressions=[node.this, node.args["quantile"]])
    return node


def _is_compared_with_text(extract: "exp.JSONExtract") -> bool:
    """Whether it is compared with text, or with a parameter, which is then taken as text."""
    from sqlglot import exp

    comparison = extract.parent
    if not isinstance(comparison, exp.EQ | exp.NEQ | exp.In | exp.Like | exp.ILike):
        return False
    others = [other for other in comparison.iter_expressions() if not isinstance(other, exp.JSONExtract)]
    for other in others:
        if isinstance(other, exp.Placeholder):
            other.replace(exp.cast(other.copy(), "TEXT", dialect="duckdb"))
    return bool(others) and all(other.is_string or isinstance(other, exp.Placeholder) for other in others)


def _interval(call: "exp.MakeInterval") -> "exp.Expr":
    """sqlglot writes the parts into one text, which loses what is not a literal."""
    from sqlglot import exp

    parts: list[exp.Expr] = [
        exp.Anonymous(this=f"to_{unit}s", expressions=[call.args[unit]])
        for unit in ("year", "month", "week", "day", "hour", "minute", "second")
        if call.args.get(unit) is not None
    ]
    if not parts:
        return exp.Interval(this=exp.Literal.string("0"), unit=exp.var("DAY"))
    return exp.Paren(this=reduce(lambda total, part: exp.Add(this=total, expression=part), parts))


def _from_json(call: "exp.FromJson") -> "exp.Expr":
    """Text that is no JSON gives null, as in Databricks. Raises `InvalidRequest` for a schema that is none."""
    from sqlglot import exp
    from sqlglot.errors import SqlglotError

    schema = call.expression.name
    for text in (schema, f"STRUCT<{schema}>"):
        try:
            kind = exp.DataType.build(text, dialect="databricks")
            break
        except SqlglotError:
            continue
    else:
        raise InvalidRequest(f"{schema!r:.100} is not a schema that from_json reads.")
    parsed = exp.TryCast(this=call.this, to=exp.DataType.build("JSON", dialect="duckdb"))
    return exp.TryCast(this=parsed, to=kind)


def _variant_get(name: str, arguments: "list[exp.Expr]") -> "exp.Expr":
    from sqlglot import exp

    value, path = arguments[:2]
    if len(arguments) == 2:
        return exp.Anonymous(this="json_extract", expressions=[value, path])
    kind = arguments[2]
    text = exp.Anonymous(this="json_extract_string", expressions=[value, path])
    target = exp.DataType.build(kind.name, dialect="databricks")
    cast = exp.TryCast if name.startswith("try") else exp.Cast
    return cast(this=text, to=target)
