"""From the Databricks dialect to DuckDB's, where sqlglot alone does not get it right."""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from sqlglot import exp


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

    if isinstance(node, exp.Cast) and isinstance(node.this, exp.JSONExtract):
        # `v:a.b::string` is the text itself; DuckDB's `->` would give it as JSON, in quotes.
        node.set("this", _as_text(node.this))
        return node
    if isinstance(node, exp.Anonymous):
        name, arguments = node.name.lower(), node.expressions
        if name in ("variant_get", "try_variant_get") and len(arguments) == 3:
            return _variant_get(name, arguments)
        if name == "try_parse_json" and len(arguments) == 1:
            return exp.TryCast(this=arguments[0], to=exp.DataType.build("JSON", dialect="duckdb"))
        if name == "timestamp_seconds" and len(arguments) == 1:
            return exp.Anonymous(this="to_timestamp", expressions=arguments)
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


def _as_text(extract: "exp.JSONExtract") -> "exp.Expr":
    from sqlglot import exp

    return exp.JSONExtractScalar(this=extract.this, expression=extract.expression)


def _variant_get(name: str, arguments: "list[exp.Expr]") -> "exp.Expr":
    from sqlglot import exp

    value, path, kind = arguments
    text = exp.Anonymous(this="json_extract_string", expressions=[value, path])
    target = exp.DataType.build(kind.name, dialect="databricks")
    cast = exp.TryCast if name.startswith("try") else exp.Cast
    return cast(this=text, to=target)
