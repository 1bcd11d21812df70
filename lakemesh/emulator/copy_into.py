"""COPY INTO: files of a volume into a table, each file once."""

import asyncio
import io
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING

from lakemesh.errors import InvalidRequest
from lakemesh.lakehouse.spark_dialect import parse_statement
from lakemesh.lakehouse.tables import AppTransaction
from lakemesh.lakehouse.warehouse import QueryResult
from lakemesh.lakehouse.workspace import Workspace

if TYPE_CHECKING:
    import pyarrow as pa
    from sqlglot import exp

FORMATS = ("PARQUET", "JSON", "CSV")


@dataclass(frozen=True, slots=True, kw_only=True)
class CopyInto:
    """`items` maps the table's columns to the file's; None takes all. `files` are names below `path`, `pattern` what
    the names of others have to be like."""

    table: str
    path: str
    file_format: str
    items: dict[str, str] | None = None
    files: tuple[str, ...] = ()
    pattern: str | None = None
    force: bool = False

    @classmethod
    def parse(cls, text: str) -> "CopyInto | None":
        """None when the text is another statement. Raises `InvalidRequest` for parts that are not emulated."""
        from sqlglot import exp

        if [word.upper() for word in text.split(None, 2)[:2]] != ["COPY", "INTO"]:
            return None
        statement = parse_statement(text)
        if not isinstance(statement, exp.Copy) or not isinstance(statement.this, exp.Table):
            raise unknown("this form of COPY INTO")
        path, items = source_of(statement.args["files"])
        given = {item.name.upper(): item for item in statement.args.get("params") or []}
        if rest := [name for name in given if name not in ("FILEFORMAT", "FILES", "PATTERN", "COPY_OPTIONS")]:
            raise unknown(f"COPY INTO with {rest[0]}")
        options = {item.name.lower(): item.args["value"].name.lower() for item in properties(given.get("COPY_OPTIONS"))}
        if set(options) - {"force"}:
            raise unknown(f"the option {min(set(options) - {'force'})!r} of COPY INTO")
        kind = value_of(given.get("FILEFORMAT")).upper()
        if kind not in FORMATS:
            raise unknown(f"COPY INTO of the format {kind!r:.40}")
        named = given["FILES"].expression if "FILES" in given else None
        return cls(
            table=".".join(part.name for part in statement.this.parts).lower(),
            path=path,
            file_format=kind,
            items=items,
            files=tuple(each.name for each in (named.expressions or [named.unnest()])) if named is not None else (),
            pattern=value_of(given.get("PATTERN")) or None,
            force=options.get("force") == "true",
        )


def unknown(what: str) -> InvalidRequest:
    return InvalidRequest(f"[UNSUPPORTED_FEATURE] The emulator does not know {what}.")


def value_of(parameter: "exp.Expr | None") -> str:
    value = parameter.args.get("expression") if parameter is not None else None
    return str(value.name) if value is not None else ""


def properties(parameter: "exp.Expr | None") -> "list[exp.Expr]":
    return list(parameter.expressions) if parameter is not None else []


def source_of(files: "list[exp.Expr]") -> tuple[str, dict[str, str] | None]:
    """A path, and what is selected from the files there."""
    from sqlglot import exp

    (source,) = files if len(files) == 1 else (None,)
    if isinstance(source, exp.Literal) and source.is_string:
        return source.name, None
    query = source.this if isinstance(source, exp.Subquery) else None
    if not isinstance(query, exp.Select) or {key for key, part in query.args.items() if part} - {
        "expressions",
        "from_",
    }:
        raise unknown("this form of COPY INTO")
    return query.args["from_"].this.name, items_of(query)


async def copy_into(command: CopyInto, workspace: Workspace) -> QueryResult:
    """Load what is new. That a file was loaded is a transaction of the table's own log, so it is remembered by the
    commit that adds its rows."""
    count = 0
    for path in await source_files(command, workspace):
        content = await workspace.volumes.read(path)
        rows = await asyncio.to_thread(read_rows, content, command)
        transaction = None if command.force else AppTransaction(f"copy-into:{path}", 1)
        if await workspace.tables.append(command.table, rows, transaction=transaction):
            count += rows.num_rows
    columns = ["num_affected_rows", "num_inserted_rows", "num_skipped_corrupt_files"]
    return QueryResult(columns=columns, types=["BIGINT"] * 3, rows=[(count, count, 0)])


async def source_files(command: CopyInto, workspace: Workspace) -> list[str]:
    base = command.path.rstrip("/")
    if command.files:
        return [f"{base}/{name}" for name in command.files]
    folder, _, name = base.rpartition("/")
    entries = await workspace.volumes.list_directory(folder if "." in name else base)
    wanted = name if "." in name else command.pattern or "*"
    return [entry.path for entry in entries if not entry.is_directory and fnmatchcase(entry.name, wanted)]


def read_rows(content: bytes, command: CopyInto) -> "pa.Table":
    import pyarrow as pa
    import pyarrow.csv as csv
    import pyarrow.json as js
    import pyarrow.parquet as pq

    source = io.BytesIO(content)
    try:
        if command.file_format == "PARQUET":
            table = pq.read_table(source)
        else:
            table = js.read_json(source) if command.file_format == "JSON" else csv.read_csv(source)
    except pa.ArrowInvalid as error:
        raise InvalidRequest(f"A file cannot be read as {command.file_format}: {error}") from None
    if command.items is None:
        return table
    return pa.table({alias: table.column(column) for alias, column in command.items.items()})


def items_of(query: "exp.Select") -> dict[str, str] | None:
    from sqlglot import exp

    if any(isinstance(item, exp.Star) for item in query.expressions):
        return None
    items = {}
    for item in query.expressions:
        # Whatever is made of it (parse_json, also inside structs), the emulator keeps a VARIANT as its JSON text.
        column = item.find(exp.Column)
        if column is None:
            raise InvalidRequest("The emulator's COPY INTO selects columns, and parse_json of what is in them.")
        items[item.alias_or_name] = column.parts[0].name
    return items
