"""Databricks SQL as a tree that says what was written: functions keep their names and the order of their arguments.

sqlglot's dialects turn functions into nodes that mean about the same in all engines. What decides who may read what,
and what is sent on, must not be about the same: here a call is a name and its arguments, and writing the tree gives
the calls that were read. Imported where it is used, since sqlglot takes a tenth of a second.
"""

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from functools import lru_cache
from itertools import pairwise
from typing import Any, ClassVar

from sqlglot import exp, parse
from sqlglot.dialects.databricks import Databricks
from sqlglot.errors import SqlglotError
from sqlglot.generators.databricks import DatabricksGenerator
from sqlglot.parsers.databricks import DatabricksParser
from sqlglot.tokenizer_core import Token, TokenType

from lakemesh.errors import InvalidRequest

MAX_STATEMENT_LENGTH = 1_000_000
MAX_REMEMBERED_LENGTH = 10_000
SYNTAX_OF_ITS_OWN = frozenset(
    {"CAST", "TRY_CAST", "EXTRACT", "TRIM", "POSITION", "OVERLAY", "SUBSTRING", "SUBSTR", "STRUCT"}
)
"""Functions whose arguments have key words between them, or names."""


class SparkSql(Databricks):
    """Databricks SQL, with Spark 4's strings: a doubled quote inside a string is that quote."""

    class Tokenizer(Databricks.Tokenizer):
        STRING_ESCAPES = ["'", '"', "\\"]
        # `/*+` begins a hint only after SELECT; inside of a comment it is the comment's text.
        NESTED_COMMENTS = True

    class Parser(DatabricksParser):
        FUNCTIONS = {"STRUCT": DatabricksParser.FUNCTIONS["STRUCT"]}
        FUNCTION_PARSERS = {
            name: parser for name, parser in DatabricksParser.FUNCTION_PARSERS.items() if name in SYNTAX_OF_ITS_OWN
        }
        NO_PAREN_FUNCTION_PARSERS = {"CASE": DatabricksParser.NO_PAREN_FUNCTION_PARSERS["CASE"]}
        ARRAY_CONSTRUCTORS: ClassVar[dict[str, type[exp.Func]]] = {}  # `array(1, 2)[0]` is a call and an index

    def tokenize(self, sql: str, *options: Any, **more: Any) -> list[Token]:
        tokens = super().tokenize(sql, *options, **more)
        for token, following in pairwise(tokens):
            if token.token_type is TokenType.WINDOW and following.token_type is TokenType.L_PAREN:
                token.token_type = TokenType.VAR  # the function, not the clause
        return tokens

    class Generator(DatabricksGenerator):
        def literal_sql(self, expression: exp.Literal) -> str:
            if not expression.is_string:
                return str(expression.this)
            return f"'{escaped(str(expression.this))}'"

        def rawstring_sql(self, expression: exp.RawString) -> str:
            return f"'{escaped(str(expression.this))}'"


def escaped(text: str) -> str:
    """The inside of a string literal. A `%` or `_` after a backslash keeps it, as Spark reads `\\\\%` and `\\%` alike
    where they matter, in patterns."""
    return text.replace("\\", "\\\\").replace("'", "\\'")


def parse_statement(text: str) -> exp.Expr:
    """The one statement of `text`. Raises `InvalidRequest` with the place of the fault and what stands there."""
    if len(text) > MAX_STATEMENT_LENGTH:
        raise InvalidRequest(f"A statement has at most {MAX_STATEMENT_LENGTH} characters.")
    if len(text) > MAX_REMEMBERED_LENGTH:
        return _parsed(text)
    return _remembered(text).copy()


def _parsed(text: str) -> exp.Expr:
    try:
        with silence():
            statements = [statement for statement in parse(text, dialect=SparkSql) if statement is not None]
    except SqlglotError as error:
        raise InvalidRequest(fault_of(error)) from None
    except (RecursionError, AttributeError, KeyError, IndexError, TypeError, ValueError):  # hostile text trips sqlglot
        raise InvalidRequest("[PARSE_SYNTAX_ERROR] The statement is not valid SQL.") from None
    if len(statements) != 1:
        raise InvalidRequest("Send exactly one statement.")
    return statements[0]


_remembered = lru_cache(maxsize=256)(_parsed)
"""Statements come again and again with other parameters, and a copy costs a tenth of what reading does."""


def render(statement: exp.Expr) -> str:
    """The statement as Databricks SQL text, without comments."""
    return statement.sql(dialect=SparkSql, comments=False)


def parse_type(text: str) -> exp.DataType:
    """Raises `InvalidRequest` for what is no type."""
    try:
        return exp.DataType.build(text, dialect=SparkSql)
    except (SqlglotError, ValueError):
        raise InvalidRequest(f"{text!r:.100} is not a Databricks SQL type.") from None


def fault_of(error: SqlglotError) -> str:
    faults: list[dict[str, Any]] = getattr(error, "errors", None) or [{}]
    line, column, met = (faults[0].get(key) for key in ("line", "col", "highlight"))
    if not line:
        return f"[PARSE_SYNTAX_ERROR] The statement is not valid SQL: {str(error).splitlines()[0]:.200}"
    return f"[PARSE_SYNTAX_ERROR] The statement is not valid SQL at line {line}, column {column}, near {met!r:.60}."


@contextmanager
def silence() -> Iterator[None]:
    """sqlglot tells of statements it keeps as text on its logger; the caller decides about those."""
    logger = logging.getLogger("sqlglot")
    level = logger.level
    logger.setLevel(logging.CRITICAL)
    try:
        yield
    finally:
        logger.setLevel(level)
