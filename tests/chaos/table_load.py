"""One of several processes on one home: append numbered rows, and meanwhile compact, delete, vacuum. Run by
test_tables.py; says each number whose append was acknowledged."""

import asyncio
import random
import sys
from pathlib import Path

from lakemesh.lakehouse.arrow import rows_to_arrow
from lakemesh.lakehouse.embedded import open_workspace
from lakemesh.lakehouse.tables import AppTransaction, Column, TableSpec

NAME = "main.shop.orders"
COLUMNS = [Column("id", "STRING"), Column("kept", "BOOLEAN")]


async def main(home: Path, process: str, rounds: int) -> None:
    workspace = await open_workspace(home)
    tables = workspace.tables
    await tables.create(TableSpec(name=NAME, columns=COLUMNS))
    for number in range(rounds):
        rows = [{"id": f"{process}-{number}", "kept": True}, {"id": f"{process}-{number}-gone", "kept": False}]
        assert await tables.append(NAME, rows_to_arrow(COLUMNS, rows), transaction=AppTransaction(process, number))
        print(number, flush=True)  # noqa: T201
        match random.randint(0, 5):
            case 0 | 1:
                await tables.compact(NAME)
            case 2:
                await workspace.warehouse.query(f"DELETE FROM {NAME} WHERE NOT kept", read_only=False)
            case 3:
                await tables.delete_rows(NAME, "kept = false")
            case 4:
                await tables.vacuum(NAME, retention_hours=1)
    await workspace.close()


asyncio.run(main(Path(sys.argv[1]), sys.argv[2], int(sys.argv[3])))
