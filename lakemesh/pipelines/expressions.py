"""SQL inside of a pipeline: expressions and queries, parsed, judged by an allow-list and written anew from the tree."""

from collections.abc import Iterator, Sequence
from functools import lru_cache
from typing import TYPE_CHECKING, Any

from lakemesh.errors import InvalidRequest, LakemeshError, PermissionDenied
from lakemesh.lakehouse.sql_gate import Reach, refuse_suspicious, require_reading

if TYPE_CHECKING:
    from sqlglot import exp

REFUSED_FUNCTIONS = frozenset({"raise_error", "assert_true", "version", "range", "table_changes"})
"""Harmless to a warehouse; in a pipeline they end the update, or read past the graph."""

AGGREGATES = frozenset(
    """
    any any_value approx_count_distinct array_agg avg bool_and bool_or collect_list collect_set count count_if first
    first_value last last_value max max_by mean median min min_by mode percentile percentile_approx std stddev
    stddev_pop stddev_samp sum try_avg try_sum var_pop var_samp variance
    """.split()  # noqa: SIM905
)
COMPUTED_ONLY = Reach(schemas=None, functions=False)


@lru_cache(maxsize=4_096)
def parse_expression(text: str) -> "exp.Expr":
    """The one expression of `text`, shared: not to be changed. Raises `InvalidRequest` for what is none, and
    `PermissionDenied` for one that does more than compute from the columns of its row."""
    from sqlglot import exp

    from lakemesh.lakehouse.spark_dialect import parse_statement

    refuse_suspicious(text)
    query = parse_statement(f"SELECT {text}")
    given = {name for name, value in query.args.items() if value and name != "kind"}
    if not isinstance(query, exp.Select) or given != {"expressions"} or len(query.expressions) != 1:
        raise InvalidRequest("It is not one expression.")
    require_reading(query, COMPUTED_ONLY)
    expression: exp.Expr = query.expressions[0]
    if isinstance(expression, exp.Alias | exp.Aliases | exp.Star):
        raise InvalidRequest("It is not one expression: it has an alias or is a star.")
    for node in expression.walk():
        if isinstance(node, exp.Query | exp.Table | exp.Exists):
            raise PermissionDenied("A subquery is not allowed in an expression.")
        if isinstance(node, exp.Placeholder | exp.Parameter):
            raise PermissionDenied("A parameter is not allowed in an expression.")
        require_computing(node)
    return expression


@lru_cache(maxsize=1_024)
def parse_query(text: str) -> "exp.Expr":
    """The one query of `text`, shared: not to be changed; `STREAM t` stands in it as `t`. Raises as `parse_expression`
    does."""
    from sqlglot import exp

    from lakemesh.lakehouse.spark_dialect import parse_statement

    refuse_suspicious(text)
    query: exp.Expr = parse_statement(text).transform(lambda node: node.this if isinstance(node, exp.Stream) else node)
    require_reading(query, COMPUTED_ONLY)
    for node in query.walk():
        if isinstance(node, exp.Placeholder | exp.Parameter):
            raise PermissionDenied("A parameter is not allowed in a query.")
        require_computing(node)
    for table in query.find_all(exp.Table):
        parts = [part.name for part in table.parts]
        if not isinstance(table.this, exp.Identifier) or not all(is_identifier(part) for part in parts):
            raise PermissionDenied(f"{table.sql('databricks')!r:.100} is not the name of a table.")
    return query


def require_computing(node: "exp.Expr") -> None:
    from sqlglot import exp

    if isinstance(node, exp.Anonymous) and str(node.this).lower() in REFUSED_FUNCTIONS:
        raise PermissionDenied(f"The function {str(node.this).lower()!r:.100} is not allowed in a pipeline.")


def is_identifier(name: str) -> bool:
    return name.isascii() and name.isidentifier() and not name.startswith("__") and len(name) <= 255


@lru_cache(maxsize=4_096)
def quoted(name: str) -> str:
    """The identifier as SQL, in backticks where it could be read as a word of the language."""
    from lakemesh.lakehouse.spark_dialect import SparkSql

    return f"`{name}`" if name.upper() in SparkSql.tokenizer_class.KEYWORDS or name.upper() in WORDS else name


WORDS = frozenset("FIRST LAST DATE TIMESTAMP INTERVAL EXTRACT CAST TRIM IF USER STREAM".split())  # noqa: SIM905


@lru_cache(maxsize=4_096)
def canonical(text: str) -> str:
    """The expression as its tree says it: on one line, without comments. Raises as `parse_expression` does."""
    from sqlglot import exp

    from lakemesh.lakehouse.spark_dialect import render

    tree = parse_expression(text)
    if isinstance(tree, exp.Column) and len(tree.parts) == 1:
        return quoted(tree.name) if is_identifier(tree.name) else render(tree)
    return render(tree)


def fault_of(text: str) -> str | None:
    """Why this is no expression for a pipeline; None when it is one."""
    try:
        parse_expression(text)
    except LakemeshError as error:
        return error.detail
    return None


@lru_cache(maxsize=4_096)
def split_alias(text: str) -> tuple[str, str | None]:
    """The expression of `expression AS name`, canonical, and the name. Raises as `parse_expression` does."""
    from sqlglot import exp

    from lakemesh.lakehouse.spark_dialect import parse_statement, render

    refuse_suspicious(text)
    query = parse_statement(f"SELECT {text}")
    if isinstance(query, exp.Select) and len(query.expressions) == 1 and isinstance(query.expressions[0], exp.Alias):
        projection = query.expressions[0]
        rest = {name for name, value in query.args.items() if value and name != "kind"} - {"expressions"}
        if not rest and is_identifier(projection.alias):
            return canonical(render(projection.this)), str(projection.alias)
    return canonical(text), None


def fault_of_aliased(text: str) -> str | None:
    """Why this is no `expression`, nor `expression AS name`, for a pipeline; None when it is one."""
    try:
        split_alias(text)
    except LakemeshError as error:
        return error.detail
    return None


def columns_in(text: str) -> Iterator[tuple[str | None, str]]:
    """Each column the expression names, as qualifier and name. Of `a.b.c` the struct's fields are left out; names
    bound by a lambda are no columns."""
    from sqlglot import exp

    tree = parse_expression(text)
    bound = {name.name for found in tree.find_all(exp.Lambda) for name in found.expressions}
    for column in tree.find_all(exp.Column):
        first, *others = column.parts
        if first.name in bound:
            continue
        yield (first.name, others[0].name) if others else (None, first.name)


def functions_in(text: str) -> set[str]:
    from sqlglot import exp

    return {str(call.this).lower() for call in parse_expression(text).find_all(exp.Anonymous)}


def aggregates_in(text: str) -> set[str]:
    """Aggregate functions outside of windows."""
    from sqlglot import exp

    found = set()
    for call in parse_expression(text).find_all(exp.Anonymous):
        name = str(call.this).lower()
        if name in AGGREGATES and call.find_ancestor(exp.Window) is None:
            found.add(name)
    return found


def never_holds(text: str) -> bool:
    """Whether the condition is false or NULL for every row, as far as constants and comparisons show it."""
    from sqlglot import exp
    from sqlglot.optimizer.simplify import simplify

    tree = parse_expression(text)
    try:
        simplified = simplify(tree.copy(), dialect="databricks")
    except Exception:  # noqa: BLE001  # the optimizer's failure says nothing about the condition
        simplified = tree
    if isinstance(simplified, exp.Null) or (isinstance(simplified, exp.Boolean) and not simplified.this):
        return True
    terms = [term.unnest() for term in (tree.flatten() if isinstance(tree, exp.And) else [tree])]
    return asks_for_null_and_value(terms) or has_empty_range(terms)


def asks_for_null_and_value(terms: "Sequence[exp.Expr]") -> bool:
    """`x IS NULL AND x > 0`, and the like."""
    from sqlglot import exp

    missing = {term.this.sql() for term in terms if isinstance(term, exp.Is) and isinstance(term.expression, exp.Null)}
    for term in terms:
        inner = term.this if isinstance(term, exp.Not) else None
        if isinstance(inner, exp.Is) and isinstance(inner.expression, exp.Null) and inner.this.sql() in missing:
            return True
        if (
            isinstance(term, exp.Binary)
            and not isinstance(term, exp.Is)
            and {term.left.sql(), term.right.sql()} & missing
        ):
            return True
    return False


def has_empty_range(terms: "Sequence[exp.Expr]") -> bool:
    """`x > 10 AND x < 5`, `x = 'a' AND x = 'b'`: comparisons of one column with constants that no value meets."""
    from sqlglot import exp

    ranges: dict[tuple[str, bool], list[tuple[Any, bool]]] = {}
    equal: dict[str, set[str]] = {}
    for term in terms:
        if not isinstance(term, exp.GT | exp.GTE | exp.LT | exp.LTE | exp.EQ) or not isinstance(term.left, exp.Column):
            continue
        name, value = term.left.sql(), number_of(term.right)
        if isinstance(term, exp.EQ) and isinstance(term.right, exp.Literal):
            equal.setdefault(name, set()).add(term.right.sql())
        if value is not None:
            strict = isinstance(term, exp.GT | exp.LT)
            for upper in (False, True):
                if isinstance(term, exp.EQ) or isinstance(term, exp.LT | exp.LTE) == upper:
                    ranges.setdefault((name, upper), []).append((value, strict))
    if any(len(values) > 1 for values in equal.values()):
        return True
    for (name, upper), bounds in ranges.items():
        if upper or (name, True) not in ranges:
            continue
        low, high = max(bounds), min(ranges[name, True], key=lambda bound: (bound[0], not bound[1]))
        if low[0] > high[0] or (low[0] == high[0] and (low[1] or high[1])):
            return True
    return False


def number_of(node: "exp.Expr") -> float | None:
    from sqlglot import exp

    sign = 1
    while isinstance(node, exp.Neg | exp.Paren):
        sign, node = (-sign if isinstance(node, exp.Neg) else sign), node.this
    return sign * float(node.this) if isinstance(node, exp.Literal) and not node.is_string else None


def type_of(text: str, types: dict[str, str]) -> str:
    """The type of the expression where it is plain to see, in upper case; `UNKNOWN` otherwise."""
    from sqlglot import exp

    tree = parse_expression(text).unnest()
    if isinstance(tree, exp.Column):
        return types.get(tree.name.lower(), "UNKNOWN").upper()
    if isinstance(tree, exp.Cast | exp.TryCast):
        return str(tree.to.sql("databricks")).upper()
    if isinstance(tree, exp.Literal):
        return "STRING" if tree.is_string else "DECIMAL" if "." in tree.name else "INT"
    if isinstance(tree, exp.Anonymous):
        return FUNCTION_TYPES.get(str(tree.this).lower(), "UNKNOWN")
    return "BOOLEAN" if isinstance(tree, exp.Predicate | exp.Not | exp.Connector) else "UNKNOWN"


FUNCTION_TYPES = {
    "count": "BIGINT", "count_if": "BIGINT", "approx_count_distinct": "BIGINT", "date": "DATE", "to_date": "DATE",
    "date_trunc": "TIMESTAMP", "to_timestamp": "TIMESTAMP", "current_timestamp": "TIMESTAMP", "upper": "STRING",
    "lower": "STRING", "trim": "STRING", "concat": "STRING", "sha2": "STRING", "mask": "STRING", "avg": "DOUBLE",
    "date_format": "STRING", "year": "INT", "month": "INT", "day": "INT", "length": "INT",
}  # fmt: skip
