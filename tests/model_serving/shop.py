"""A small shop for the analyst: one table, one domain."""

import asyncio
from pathlib import Path

import pyarrow as pa

from lakemesh.lakehouse.embedded import open_workspace
from lakemesh.lakehouse.tables import Column, TableSpec

ANALYST = """
  analyst:
    class: analyst
    options:
      domains:
        stock:
          description: Pieces in stock by place.
          semantic_model:
            tables: {stock: {name: main.shop.stock}}
            metrics: {pieces: {aggregate: sum, column: stock.pieces, synonyms: [stock]}}
            dimensions: {place: {column: stock.place, values: {Rome: [], Oslo: []}}}
"""
ROWS = pa.table({"place": ["Rome", "Rome", "Oslo"], "pieces": [3, 4, 5]})
COLUMNS = [Column("place", "STRING"), Column("pieces", "BIGINT")]


def fill(home: Path) -> None:
    async def run() -> None:
        workspace = await open_workspace(home)
        try:
            await workspace.tables.create(TableSpec(name="main.shop.stock", columns=COLUMNS))
            await workspace.tables.append("main.shop.stock", ROWS)
        finally:
            await workspace.close()

    asyncio.run(run())
