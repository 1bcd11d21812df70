"""SQL of a job: scripts of statements, run on the embedded warehouse or by the Statement Execution API."""

import re
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

from lakemesh.errors import InvalidRequest
from lakemesh.lakehouse.warehouse import QueryResult

Run = Callable[[str, Mapping[str, Any]], Awaitable[QueryResult]]

DECLARE = re.compile(
    r"DECLARE\s+(?:OR\s+REPLACE\s+)?(?:VARIABLE\s+)?(?P<name>\w+)(?:\s+\w+)?(?:\s+(?:DEFAULT|=)\s*(?P<value>.+))?",
    re.IGNORECASE | re.DOTALL,
)
ASSIGN = re.compile(r"SET\s+VAR(?:IABLE)?\s+(?P<name>\w+)\s*=(?P<value>.+)", re.IGNORECASE | re.DOTALL)
EXECUTE = re.compile(r"EXECUTE\s+IMMEDIATE\s+(?P<what>.+)", re.IGNORECASE | re.DOTALL)
NAMED = re.compile(r"(?<![:\w]):([A-Za-z_]\w*)")


class Script:
    """Runs statements one after the other. Of session variables it has what puts a statement together: DECLARE, SET
    VARIABLE, EXECUTE IMMEDIATE."""

    def __init__(self, run: Run, parameters: Mapping[str, Any]) -> None:
        self._ask = run
        self._parameters = parameters
        self._variables: dict[str, Any] = {}

    async def run(self, text: str) -> QueryResult:
        """The last statement's result."""
        result = QueryResult(columns=[], types=[], rows=[])
        for statement in statements_of(text):
            result = await self._carry_out(statement)
        return result

    async def _carry_out(self, statement: str) -> QueryResult:
        if found := DECLARE.fullmatch(statement):
            self._variables[found["name"].lower()] = await self._value(found["value"] or "NULL")
            return QueryResult(columns=[], types=[], rows=[])
        if found := ASSIGN.fullmatch(statement):
            self._variables[found["name"].lower()] = await self._value(found["value"])
            return QueryResult(columns=[], types=[], rows=[])
        if found := EXECUTE.fullmatch(statement):
            what = found["what"].strip()
            text = self._variables.get(what.lower()) if what.isidentifier() else await self._value(what)
            if not isinstance(text, str):
                raise InvalidRequest(f"EXECUTE IMMEDIATE takes a text or a variable that is one, not {what!r:.60}.")
            statement = text
        return await self._asked(statement)

    async def _value(self, expression: str) -> Any:
        return (await self._asked(f"SELECT {expression.strip()} AS value")).rows[0][0]

    async def _asked(self, statement: str) -> QueryResult:
        named = set(NAMED.findall(statement))
        return await self._ask(statement, {name: value for name, value in self._parameters.items() if name in named})


def statements_of(text: str) -> list[str]:
    """Parted at the semicolons that stand in no string and no comment; without their comments."""
    from sqlglot.errors import SqlglotError
    from sqlglot.tokenizer_core import TokenType

    from lakemesh.lakehouse.spark_dialect import SparkSql

    try:
        tokens = SparkSql().tokenize(text)
    except SqlglotError as error:
        raise InvalidRequest(f"The script is not SQL: {str(error).splitlines()[0]:.200}") from None
    parts: list[list[Any]] = [[]]
    for token in tokens:
        if token.token_type == TokenType.SEMICOLON:
            parts.append([])
        else:
            parts[-1].append(token)
    return [text[part[0].start : part[-1].end + 1] for part in parts if part]
