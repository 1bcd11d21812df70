"""COPY INTO: files of a volume into a table, each file once."""

import asyncio
import io
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

from lakemesh.errors import InvalidRequest
from lakemesh.lakehouse.tables import AppTransaction
from lakemesh.lakehouse.warehouse import QueryResult
from lakemesh.lakehouse.workspace import Workspace

if TYPE_CHECKING:
    import pyarrow as pa

SHAPE = re.compile(
    r"""\s*COPY\s+INTO\s+(?P<table>[\w`.-]+)\s+FROM\s+
    (\(\s*SELECT\s+(?P<items>.+?)\s+FROM\s+'(?P<selected>[^']+)'\s*\)|'(?P<path>[^']+)')\s+
    FILEFORMAT\s*=\s*(?P<format>PARQUET|JSON|CSV)
    (\s+FILES\s*=\s*\((?P<files>[^)]*)\))?
    (\s+FORMAT_OPTIONS\s*\([^)]*\))?
    (\s+COPY_OPTIONS\s*\((?P<options>[^)]*)\))?\s*;?\s*""",
    re.IGNORECASE | re.DOTALL | re.VERBOSE,
)
QUOTED = re.compile(r"'([^']*)'")
FORCED = re.compile(r"'force'\s*=\s*'true'", re.IGNORECASE)


@dataclass(frozen=True, slots=True, kw_only=True)
class CopyInto:
    """`items` maps the table's columns to the file's; None takes all. `files` are names below `path`."""

    table: str
    path: str
    file_format: str
    items: dict[str, str] | None = None
    files: tuple[str, ...] = ()
    force: bool = False

    @classmethod
    def parse(cls, text: str) -> "CopyInto | None":
        """None when the text is another statement. Raises `InvalidRequest` for parts that are not emulated."""
        match = SHAPE.fullmatch(text)
        if match is None:
            if re.match(r"\s*COPY\s+INTO\b", text, re.IGNORECASE):
                raise InvalidRequest("[PARSE_SYNTAX_ERROR] The emulator does not know this form of COPY INTO.")
            return None
        return cls(
            table=match["table"].replace("`", "").lower(),
            path=match["selected"] or match["path"],
            file_format=match["format"].upper(),
            items=items_of(match["items"]) if match["items"] else None,
            files=tuple(QUOTED.findall(match["files"] or "")),
            force=bool(FORCED.search(match["options"] or "")),
        )


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
    return [entry.path for entry in entries if not entry.is_directory and ("." not in name or entry.name == name)]


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


def items_of(text: str) -> dict[str, str] | None:
    if text.strip() == "*":
        return None
    from sqlglot import exp, parse_one
    from sqlglot.errors import SqlglotError

    try:
        query = parse_one(f"SELECT {text}", dialect="databricks")
    except SqlglotError:
        raise InvalidRequest("[PARSE_SYNTAX_ERROR] The SELECT of COPY INTO is not valid SQL.") from None
    items = {}
    for item in query.expressions:
        # Whatever is made of it (parse_json, also inside structs), the emulator keeps a VARIANT as its JSON text.
        column = item.find(exp.Column)
        if column is None:
            raise InvalidRequest("The emulator's COPY INTO selects columns, and parse_json of what is in them.")
        items[item.alias_or_name] = column.parts[0].name
    return items
