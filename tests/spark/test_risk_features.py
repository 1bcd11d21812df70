"""Features by Spark are those of the process, to the last bit, and what is learned from them is the same model."""

import json
import os
import subprocess
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pydantic

from lakemesh.agents.fraud.features import FEATURES, TransactionTable, compute_features
from lakemesh.jobs import risk_training
from lakemesh.jobs.card_transactions import Method, generate
from lakemesh.jobs.spark_features import joined, with_features
from lakemesh.jobs.train_risk import split_before, train
from lakemesh.jobs.transactions_io import label_rows, transaction_rows
from tests.judge import judged
from tests.spark.spark import PYTHON, ROOT, Spark

SMALL = Method(customers=200, terminals=300)


def written(data: TransactionTable, folder: Path) -> tuple[str, str]:
    """Both tables as Parquet, and how Spark names them."""
    folder.mkdir(parents=True, exist_ok=True)
    pq.write_table(transaction_rows(data), folder / "transactions.parquet")
    pq.write_table(label_rows(data), folder / "labels.parquet")
    return f"parquet.`{folder}/transactions.parquet`", f"parquet.`{folder}/labels.parquet`"


def test_features_by_spark_are_the_same_bits(spark: Spark, tmp_path: Path) -> None:
    """Also where several transactions of a customer or terminal fall on one second, and amounts are of no round sum."""
    data = generate(days=60, seed=5, method=SMALL)
    crowded = replace(data, time=data.time // 3_600 * 3_600, amount=data.amount / 3).sorted()
    for place, table in enumerate((data, crowded)):
        statement = with_features(joined(*written(table, tmp_path / str(place))))
        target = tmp_path / f"features-{place}"
        spark.run(f"CREATE TABLE risk_features_{place} USING parquet LOCATION '{target}' AS {statement}")
        found = pq.read_table(target).sort_by([("time", "ascending"), ("transaction_id", "ascending")])
        assert found["transaction_id"].to_pylist() == table.transaction_id.tolist()
        ours = compute_features(table)
        for column, name in enumerate(FEATURES):
            theirs = found[name].cast(pa.float64()).to_numpy()
            assert np.array_equal(theirs.view(np.int64), ours[:, column].copy().view(np.int64)), name


@judged
def test_the_job_learns_the_same_model(tmp_path: Path, monkeypatch) -> None:
    data = generate(days=85, seed=11, method=SMALL)
    transactions, labels = written(data, tmp_path)
    program = (
        "import os, runpy; from pathlib import Path; from tests.spark.spark_process import java_home;"
        "os.environ['JAVA_HOME'] = str(java_home(Path('java').absolute()));"
        "from lakemesh.jobs import risk_training; risk_training.TREES = 8;"
        f"runpy.run_path({str(ROOT / 'jobs/train_risk.py')!r}, run_name='__main__')"
    )
    volume = tmp_path / "models"
    volume.mkdir()
    (volume / "risk_v3.json").touch()
    packages = Path(pydantic.__file__).parents[1]
    environment = os.environ | {"PYTHONPATH": f"{ROOT}:{packages}", "SPARK_LOCAL_IP": "127.0.0.1", "TZ": "UTC"}
    command = [PYTHON, "-c", program, ROOT, transactions, labels, tmp_path / "kept", volume]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=400, cwd=tmp_path)
    assert done.returncode == 0, done.stderr[-3_000:]
    monkeypatch.setattr(risk_training, "TREES", 8)
    ours = train(data, split_before(int(data.time.max())), 4, kinds=risk_training.KINDS)
    assert json.loads((volume / "risk_v4.json").read_text()) == json.loads(ours.model_dump_json(exclude_none=True))
