"""What SQL from outside may do: read rows of tables in the allowed schemas, and nothing else.

The statement is parsed and everything in it must be known to be harmless; what the parser does not know is refused.
"""

from collections.abc import Collection, Iterator
from typing import TYPE_CHECKING

from lakemesh.errors import InvalidRequest, PermissionDenied

if TYPE_CHECKING:
    from sqlglot import exp

MAX_NODES = 5_000
HARMFUL_FUNCTIONS = frozenset(
    {
        "ai_gen", "ai_query", "current_setting", "getenv", "glob", "http_request", "iceberg_scan", "java_method",
        "json_execute_serialized_sql", "parquet_metadata", "parquet_scan", "query", "query_table", "read_blob",
        "read_csv", "read_files", "read_json", "read_kafka", "read_parquet", "read_text", "reflect", "remote_query",
        "secret", "sniff_csv", "sqlite_scan", "try_reflect", "try_secret", "which_secret",
    }
)  # fmt: skip
"""Functions the parser knows that read files, the network, secrets or settings, here or on Databricks."""
PLAIN_FUNCTIONS = frozenset(
    {
        "count_if", "date_format", "from_unixtime", "getbit", "json_array_length", "make_date", "percentile",
        "percentile_approx", "regexp_substr", "split_part", "to_timestamp", "try_to_number", "variant_get",
    }
)  # fmt: skip
"""Functions the parser does not know, and that only compute."""


def require_allowed(statement: str, schemas: Collection[str]) -> None:
    """Raises `InvalidRequest` for what is no single Databricks SQL query, and `PermissionDenied` for one that does more
    than read tables of `schemas` (`catalog.schema`)."""
    query = parse_query(statement)
    allowed = {schema.lower() for schema in schemas}
    for count, node in enumerate(query.walk()):
        if count > MAX_NODES:
            raise InvalidRequest("The query is too long.")
        require_harmless(node)
    for table in tables_of(query):
        schema = f"{table.catalog}.{table.db}".lower()
        if schema not in allowed:
            named = table.sql("databricks")
            raise PermissionDenied(
                f"The query reads {named!r:.200}; name tables as catalog.schema.table, in {', '.join(sorted(schemas))}."
            )


def parse_query(statement: str) -> "exp.Query":
    import sqlglot
    from sqlglot import exp
    from sqlglot.errors import SqlglotError

    try:
        statements = [parsed for parsed in sqlglot.parse(statement, dialect="databricks") if parsed is not None]
    except (SqlglotError, RecursionError):
        raise InvalidRequest("The statement is not Databricks SQL.") from None
    if len(statements) != 1 or not isinstance(statements[0], exp.Query):
        raise PermissionDenied("Only one SELECT is run here.")
    return statements[0]


def require_harmless(node: "exp.Expr") -> None:
    from sqlglot import exp

    if isinstance(node, exp.DML | exp.DDL | exp.Command | exp.Into) and not isinstance(node, exp.Query):
        raise PermissionDenied("Only reading is allowed here.")
    if isinstance(node, exp.Into | exp.Lock):
        raise PermissionDenied("Only reading is allowed here.")
    if isinstance(node, exp.Anonymous):
        name = str(node.this).lower()
        if name not in PLAIN_FUNCTIONS:
            raise PermissionDenied(f"The function {name!r:.100} is not allowed here.")
    elif isinstance(node, exp.Func) and (named := {name.lower() for name in node.sql_names()} & HARMFUL_FUNCTIONS):
        raise PermissionDenied(f"The function {min(named)!r} is not allowed here.")


def tables_of(query: "exp.Query") -> Iterator["exp.Table"]:
    """Every table the query reads, common table expressions aside. A name is one of those only where it is in scope:
    a query that shadows a table cannot be used to reach it elsewhere. Raises `PermissionDenied` for what stands where
    a table should and is not one."""
    from sqlglot import exp
    from sqlglot.optimizer.scope import traverse_scope

    seen: set[int] = set()
    for scope in traverse_scope(query):
        for source in scope.sources.values():
            if isinstance(source, exp.Table):
                seen.add(id(source))
                yield source
        for table in scope.tables:
            if not isinstance(table.this, exp.Identifier):
                raise PermissionDenied("Only tables may be read here, by their names.")
            seen.add(id(table))
    for table in query.find_all(exp.Table):
        if id(table) not in seen:
            yield table
