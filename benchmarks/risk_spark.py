"""What the risk model's features cost by Spark as the table grows: open-source Spark on this machine's cores, in a
process of its own (`make spark`), from Parquet to Parquet.

A table is a block of generated transactions again and again, with customers and terminals of its own each time. The
cost is linear when the largest table takes no more seconds for a transaction than the smaller one, but for 15 %.
`LAKEMESH_RISK_MILLIONS` is how many millions the largest has.
"""

import os
import subprocess
import tempfile
import time
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq

from benchmarks.report import Row, report
from lakemesh.agents.fraud.features import TransactionTable
from lakemesh.jobs.card_transactions import generate
from lakemesh.jobs.spark_features import joined, with_features
from lakemesh.jobs.transactions_io import label_rows, transaction_rows

MILLIONS = float(os.environ.get("LAKEMESH_RISK_MILLIONS", "30"))
ROOT = Path(__file__).parents[1]
PYTHON = ROOT / ".cache/spark/bin/python"
DAYS = 136
APART = 10_000_000
"""What is added to ids for each block, more than a block has."""
PROGRAM = """
import os, sys, time
from pathlib import Path
from tests.spark.spark_process import java_home
os.environ |= {"JAVA_HOME": str(java_home(Path(sys.argv[3], "java"))), "SPARK_LOCAL_IP": "127.0.0.1", "TZ": "UTC"}
from pyspark.sql import SparkSession
spark = (SparkSession.builder.master("local[*]").config("spark.driver.memory", "6g")
         .config("spark.sql.shuffle.partitions", "16").config("spark.ui.enabled", "false")
         .config("spark.sql.session.timeZone", "UTC").config("spark.local.dir", sys.argv[3]).getOrCreate())
spark.range(1).count()
started = time.perf_counter()
spark.sql(open(sys.argv[1]).read()).write.mode("overwrite").parquet(sys.argv[2])
print("seconds", time.perf_counter() - started)
print("rows", spark.read.parquet(sys.argv[2]).count())
"""


def shifted(block: TransactionTable, place: int) -> TransactionTable:
    columns = ("transaction_id", "customer_id", "terminal_id")
    moved = {name: getattr(block, name) + np.int64(place * APART) for name in columns}
    return TransactionTable(time=block.time, amount=block.amount, is_fraud=block.is_fraud, **moved)


def seconds(block: TransactionTable, blocks: int, folder: Path) -> float:
    """Of reading, joining the labels, computing and writing."""
    for name in ("transactions", "labels"):
        (folder / name).mkdir(parents=True)
    for place in range(blocks):
        table = shifted(block, place)
        pq.write_table(transaction_rows(table), folder / "transactions" / f"{place}.parquet")
        pq.write_table(label_rows(table), folder / "labels" / f"{place}.parquet")
    statement = folder / "features.sql"
    source = joined(f"parquet.`{folder}/transactions`", f"parquet.`{folder}/labels`")
    statement.write_text(with_features(source))
    command = [PYTHON, "-c", PROGRAM, statement, folder / "features", folder / "spark"]
    done = subprocess.run(command, capture_output=True, text=True, env=os.environ | {"PYTHONPATH": str(ROOT)})
    assert done.returncode == 0, done.stderr[-3_000:]
    figures = dict(line.split() for line in done.stdout.splitlines() if line.startswith(("seconds", "rows")))
    assert int(figures["rows"]) == blocks * len(block), figures
    return float(figures["seconds"])


def main() -> None:
    started = time.perf_counter()
    block = generate(days=DAYS, seed=2018)
    blocks = max(2, round(MILLIONS * 1e6 / len(block)))
    found = {}
    for count in (max(1, blocks // 4), blocks):
        with tempfile.TemporaryDirectory() as folder:
            found[count * len(block)] = seconds(block, count, Path(folder))
    (few, quick), (many, slow) = found.items()
    rows = [
        Row("seconds a transaction, largest / smaller", (slow / many) / (quick / few), "<= 1.15"),
        *(Row(f"{number:,} transactions, s", value) for number, value in found.items()),
        Row("transactions a second, largest", many / slow),
        Row("all of it, s", time.perf_counter() - started),
    ]
    report("risk_spark", f"Features by Spark on {os.cpu_count()} cores", rows)


if __name__ == "__main__":
    main()
