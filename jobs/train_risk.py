"""The risk model from tables of any size: features by Spark, and the same training as `lakemesh train-risk`.

Parameters: the folder of the app's source, the tables of transactions and labels, a Parquet folder for features or `-`,
the file that the model goes to, and its version. On Databricks as a job; here by open-source Spark.
"""

import sys
from pathlib import Path


def main(source: str, transactions: str, labels: str, kept: str, target: str, version: str) -> None:
    sys.path.insert(0, source)
    from pyspark.sql import SparkSession

    from lakemesh.jobs.spark_training import train_with_spark

    spark = SparkSession.builder.getOrCreate()
    model = train_with_spark(spark, transactions, labels, int(version), kept=None if kept == "-" else kept)
    Path(target).write_text(model.model_dump_json(exclude_none=True))
    sys.stdout.write(f"risk model version {model.version}, {model.kind}: {model.metrics}\n")


if __name__ == "__main__":
    main(*sys.argv[1:])
