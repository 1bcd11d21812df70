"""What a pipeline's SQL may hold: an allow-list of Lakeflow's statements, the same for files of ours and of a model.

A file is read token by token against a grammar of five statements (Databricks SQL reference: CREATE STREAMING TABLE,
CREATE MATERIALIZED VIEW, CREATE VIEW in pipelines, CREATE FLOW, AUTO CDC INTO); what the grammar does not know is
refused by rule and line. Queries and conditions in it are judged as those in Python are.
"""

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, NoReturn

from lakemesh.errors import LakemeshError
from lakemesh.pipelines import expressions
from lakemesh.pipelines.gate_lists import BROKERS, FORMATS, NAME, SOURCE_OPTIONS, VOLUME
from lakemesh.pipelines.gate_text import Refusal, fault_of_text
from lakemesh.pipelines.gate_values import fault_of_schema

if TYPE_CHECKING:
    from sqlglot.tokenizer_core import Token

BETWEEN = re.compile(r"(\s|--[^\n\\]*(\n|$))*")
"""What may stand between tokens. Spark goes on with a comment whose line ends in a backslash; sqlglot does not."""

ROWS = "source_rows"
"""Stands in a query for a table function that has been judged."""


@dataclass(frozen=True, slots=True)
class Read:
    """What a file reads from outside of the pipeline: a `query`'s tables, a `path`, or `brokers`."""

    kind: str
    text: str
    line: int


class Refused(Exception):
    """Never leaves this module."""

    def __init__(self, refusal: Refusal) -> None:
        self.refusal = refusal


def judge_sql(text: str) -> list[Refusal]:
    """Why this file may not run: its first fault; nothing when it may."""
    if fault := fault_of_text(text):
        return [fault]
    try:
        list(SqlFile(text).statements())
    except Refused as refused:
        return [refused.refusal]
    return []


def reads_of(text: str) -> list[Read]:
    """For a file that the gate lets through."""
    return list(SqlFile(text).statements())


class SqlFile:
    def __init__(self, text: str) -> None:
        self.text = text
        self.tokens = tokens_of(text)
        self.position = 0

    def statements(self) -> Iterator[Read]:
        """What each of them reads. Raises `Refused`."""
        if not self.tokens:
            self.refuse("statement", "it holds no statement")
        while self.position < len(self.tokens):
            self.word("CREATE")
            yield from self.flow() if self.taken("FLOW") else self.dataset()
            self.sign(";")

    def dataset(self) -> Iterator[Read]:
        if self.taken("TEMPORARY"):
            self.word("VIEW")
        else:
            self.words("OR", "REFRESH")
            self.words("STREAMING", "TABLE") if self.at("STREAMING") else self.words("MATERIALIZED", "VIEW")
        self.name()
        if self.at("("):
            self.listed(self.constraint)
        if self.taken("COMMENT"):
            self.string("a comment")
        if self.taken("CLUSTER BY"):
            self.listed(self.name)
        if self.taken("AS"):
            yield from self.query()

    def constraint(self) -> None:
        self.word("CONSTRAINT")
        self.name()
        self.word("EXPECT")
        self.sign("(")
        self.expression(self.until_closed())
        if self.taken("ON"):
            self.word("VIOLATION")
            self.words("DROP", "ROW") if self.at("DROP") else self.words("FAIL", "UPDATE")

    def flow(self) -> Iterator[Read]:
        self.name()
        self.word("AS")
        if self.taken("INSERT"):
            self.word("INTO")
            self.name()
            self.words("BY", "NAME")
            yield from self.query()
        else:
            self.changes()

    def changes(self) -> None:
        self.words("AUTO", "CDC", "INTO")
        self.name()
        self.words("FROM", "STREAM")
        self.listed(self.name)
        self.word("KEYS")
        self.listed(self.name)
        if self.taken("APPLY"):
            self.words("AS", "DELETE", "WHEN")
            self.expression(self.until("SEQUENCE"))
        self.words("SEQUENCE", "BY")
        self.name()
        if self.taken("COLUMNS"):
            self.sign("*")
            self.word("EXCEPT")
            self.listed(self.name)
        self.words("STORED", "AS", "SCD", "TYPE")
        if not (self.taken("1") or self.taken("2")):
            self.refuse("statement", "changes are stored as SCD TYPE 1 or 2")

    def query(self) -> Iterator[Read]:
        """Up to the statement's end, its table functions replaced by a name."""
        begun, parts = self.position, []
        start = self.here.start
        while not self.at(";"):
            if function := self.table_function():
                parts.append(f"{self.text[start : self.here.start]}{ROWS}")
                yield from self.source(function)
                start = self.tokens[self.position - 1].end + 1
            else:
                self.position += 1
        text = "".join(parts) + self.text[start : self.here.start]
        try:
            expressions.parse_query(text)
        except LakemeshError as error:
            self.refuse("sql", error.detail, self.tokens[begun])
        yield Read("query", text, self.tokens[begun].line)

    def table_function(self) -> str | None:
        following = self.tokens[self.position + 1] if self.position + 1 < len(self.tokens) else None
        name = self.here.text.lower()
        opens = following is not None and following.text == "(" and name in SOURCES
        return name if opens and is_plain(self.here) else None

    def source(self, function: str) -> Iterator[Read]:
        """`read_files('path', option => literal, ...)` or `read_kafka(option => literal, ...)`."""
        begun = self.here
        self.position += 1
        given: dict[str, str] = {}

        def argument() -> None:
            if function == "read_files" and not given:
                given["path"] = self.string("a path")
                return
            name = self.here.text
            if name in given or name not in SOURCES[function] or not is_plain(self.here):
                self.refuse("option", f"{function} takes no {name!r:.60} here, or has it already")
            self.position += 1
            self.sign("=>")
            given[name] = self.string(name, numbers=True)

        self.listed(argument)
        fault = SOURCE_FAULTS[function](given)
        if fault:
            self.refuse("option", f"{function}: {fault}", begun)
        kind = "path" if function == "read_files" else "brokers"
        yield Read(kind, given["path" if function == "read_files" else "bootstrapServers"], begun.line)

    @property
    def here(self) -> "Token":
        if self.position >= len(self.tokens):
            self.refuse("syntax", "the statement does not end with a semicolon")
        return self.tokens[self.position]

    def at(self, text: str) -> bool:
        return (
            self.position < len(self.tokens)
            and is_plain(self.here)
            and " ".join(self.here.text.upper().split()) == text
        )

    def taken(self, text: str) -> bool:
        found = self.at(text)
        self.position += found
        return found

    def word(self, text: str) -> None:
        if not self.taken(text):
            self.refuse("statement", f"{text} is expected, not {self.here.text!r:.60}")

    sign = word

    def words(self, *texts: str) -> None:
        for text in texts:
            self.word(text)

    def name(self) -> None:
        if not NAME.fullmatch(self.here.text) or is_literal(self.here):
            self.refuse("name", f"{self.here.text!r:.60} is not the name of a dataset or column of the pipeline")
        self.position += 1

    def string(self, what: str, *, numbers: bool = False) -> str:
        from sqlglot.tokenizer_core import TokenType

        fine = {TokenType.STRING, TokenType.NUMBER} if numbers else {TokenType.STRING}
        if self.here.token_type not in fine:
            self.refuse("argument", f"{what} is a literal")
        text = str(self.here.text)
        self.position += 1
        return text

    def listed(self, item: Callable[[], None]) -> None:
        self.sign("(")
        item()
        while self.taken(","):
            item()
        self.sign(")")

    def until_closed(self) -> str:
        """The text up to the bracket that closes the one before it."""
        start, depth = self.here.start, 1
        while depth:
            depth += self.at("(") - self.at(")")
            self.here  # noqa: B018  # refuses where the file ends
            self.position += 1
        return self.text[start : self.tokens[self.position - 1].start]

    def until(self, word: str) -> str:
        start = self.here.start
        while not self.at(word):
            if self.at(";"):
                self.refuse("statement", f"{word} is expected")
            self.here  # noqa: B018
            self.position += 1
        return self.text[start : self.here.start]

    def expression(self, text: str) -> None:
        if fault := expressions.fault_of(text):
            self.refuse("sql", fault, self.tokens[self.position - 1])

    def refuse(self, rule: str, message: str, token: "Token | None" = None) -> NoReturn:
        last = self.tokens[min(self.position, len(self.tokens) - 1)] if self.tokens else None
        at = token or last
        raise Refused(Refusal(rule, at.line if at else 1, message))


def tokens_of(text: str) -> "list[Token]":
    from sqlglot.errors import SqlglotError

    from lakemesh.lakehouse.spark_dialect import SparkSql

    try:
        tokens = SparkSql().tokenize(text)
    except (SqlglotError, RecursionError, ValueError):
        raise Refused(Refusal("syntax", 1, "it is not SQL")) from None
    ends = [-1, *(token.end for token in tokens)]
    starts = [*(token.start for token in tokens), len(text)]
    for number, (end, start) in enumerate(zip(ends, starts, strict=True)):
        if not BETWEEN.fullmatch(text[end + 1 : start]):
            line = tokens[min(number, len(tokens) - 1)].line if tokens else 1
            raise Refused(Refusal("comment", line, "only comments of one line (--) may stand there"))
    return tokens


def is_literal(token: "Token") -> bool:
    """Text or a number, not a word."""
    from sqlglot.tokenizer_core import TokenType

    return token.token_type in (TokenType.STRING, TokenType.RAW_STRING, TokenType.NUMBER)


def is_plain(token: "Token") -> bool:
    """A word, sign or number as it stands there, neither text nor a name in backticks."""
    from sqlglot.tokenizer_core import TokenType

    return token.token_type not in (TokenType.STRING, TokenType.RAW_STRING, TokenType.IDENTIFIER)


def fault_of_files(given: dict[str, str]) -> str | None:
    if not VOLUME.fullmatch(given["path"]) or ".." in given["path"]:
        return f"{given['path']!r:.80} is not a path in a volume"
    if given.get("format") not in FORMATS - {"cloudFiles", "kafka", "delta"}:
        return f"the format {given.get('format')!r:.60} may not be read"
    return fault_of_schema([given["schema"]]) if "schema" in given else None


def fault_of_topics(given: dict[str, str]) -> str | None:
    fine = BROKERS.fullmatch(given.get("bootstrapServers", ""))
    return None if fine else "the brokers are not of the form host:port"


SOURCES = {
    "read_files": SOURCE_OPTIONS,
    "read_kafka": {"bootstrapServers", "subscribe", "startingOffsets", "maxOffsetsPerTrigger", "failOnDataLoss"},
}
SOURCE_FAULTS = {"read_files": fault_of_files, "read_kafka": fault_of_topics}
