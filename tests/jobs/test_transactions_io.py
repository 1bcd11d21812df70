"""Files of transactions are read whole, or refused with the column that is wrong."""

from pathlib import Path

import numpy as np
import pytest
from pyarrow import csv, parquet

from lakemesh.errors import InvalidRequest
from lakemesh.jobs.card_transactions import Method, generate
from lakemesh.jobs.transactions_io import label_rows, read_transactions, transaction_rows

HEAD = "transaction_id,tx_datetime,customer_id,terminal_id,amount,is_fraud\n"
GOOD = "1,2018-08-01 10:00:00,5,7,12.5,0\n"


@pytest.mark.parametrize("kind", ["parquet", "csv"])
def test_what_was_written_is_read(tmp_path: Path, kind: str) -> None:
    data = generate(days=3, seed=1, method=Method(customers=100, terminals=200))
    rows = transaction_rows(data).append_column("is_fraud", label_rows(data).column("is_fraud"))
    file = tmp_path / f"own.{kind}"
    (parquet.write_table if kind == "parquet" else csv.write_csv)(rows, file)
    read = read_transactions(file)
    for name in ("transaction_id", "time", "customer_id", "terminal_id", "amount", "is_fraud"):
        assert np.array_equal(getattr(read, name), getattr(data, name)), name


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (HEAD, "no transactions"),
        (HEAD.replace(",amount", "") + "1,2018-08-01 10:00:00,5,7,0\n", "lacks the column 'amount'"),
        (HEAD + GOOD + "2,2018-08-01 10:00:00,C9,7,1,0\n", "'customer_id' cannot be read"),
        (HEAD + GOOD + "2,some day,5,7,1,0\n", "'tx_datetime' cannot be read"),
        (HEAD + GOOD + "2,2018-08-01 10:00:00,5,7,,0\n", "'amount' has empty values"),
        (HEAD + GOOD + "2,2018-08-01 10:00:00,5,7,-3,0\n", "'amount' has -3.0 in row 2"),
        (HEAD + GOOD + "2,2018-08-01 10:00:00,5,7,nan,0\n", "'amount' has"),
        (HEAD + GOOD + "2,2018-08-01 10:00:00,5,7,1,2\n", "'is_fraud' has 2 in row 2"),
        (HEAD + GOOD + "2,2018-08-01 10:00:00,-5,7,1,0\n", "'customer_id' has -5 in row 2"),
        (HEAD + GOOD + GOOD, "'transaction_id' names a transaction twice"),
        ("\x00\x01", "cannot be read as Parquet or CSV"),
    ],
)
def test_faults_are_named(tmp_path: Path, content: str, said: str) -> None:
    file = tmp_path / "own.csv"
    file.write_text(content)
    with pytest.raises(InvalidRequest) as raised:
        read_transactions(file)
    assert said in raised.value.detail


def test_parquet_that_is_none_is_refused(tmp_path: Path) -> None:
    (tmp_path / "own.parquet").write_bytes(b"not parquet")
    with pytest.raises(InvalidRequest, match="cannot be read"):
        read_transactions(tmp_path / "own.parquet")
