"""The risk model from tables of any size: features by Spark, and the same training as `lakemesh train-risk`.

Parameters: the folder of the app's source, the tables of transactions and labels, a folder for all features as Parquet
or `-`, and the models volume, where the model becomes the next version. On Databricks as a job; here by open-source
Spark.
"""

import sys
from pathlib import Path


def main(source: str, transactions: str, labels: str, kept: str, volume: str) -> None:
    sys.path.insert(0, source)
    from pyspark.sql import SparkSession

    from lakemesh.agents.fraud.risk_model import FILE_NAME
    from lakemesh.jobs.spark_training import train_with_spark

    folder = Path(volume)
    versions = [int(found[1]) for file in folder.iterdir() if (found := FILE_NAME.fullmatch(file.name))]
    version = max(versions, default=0) + 1
    spark = SparkSession.builder.getOrCreate()
    model = train_with_spark(spark, transactions, labels, version, kept=None if kept == "-" else kept)
    with (folder / f"risk_v{version}.json").open("x") as file:  # versions are never overwritten
        file.write(model.model_dump_json(exclude_none=True))
    sys.stdout.write(f"risk model version {version}, {model.kind}: {model.metrics}\n")


if __name__ == "__main__":
    main(*sys.argv[1:])
