# mypy: ignore-errors
"""What Databricks' pipelines have and open-source Spark lacks, near enough to prove a pipeline with a few rows.

Expectations become filters (`warn` keeps every row, but the condition is analysed; `fail` raises). Auto Loader, Kafka
and tables outside are read from folders of generated rows. Changes are applied as one query over all of them, for want
of a table format with MERGE. Imported in Spark's environment, before a pipeline's modules.
"""

import functools
import os

from pyspark import pipelines as dp

SKIPPED = ("cloudFiles.", "rescuedDataColumn", "kafka.", "subscribe", "startingOffsets", "failOnDataLoss")


class Shim:
    """`places` maps paths, `kafka:topic` and tables outside to `{"folder", "format", "ddl"}`."""

    def __init__(self, spark, places):
        self.spark = spark
        self.places = places
        self.waiting = {}
        self.rules = {}

    def install(self):
        for each in ("", "_all"):
            for action in ("", "_or_drop", "_or_fail"):
                setattr(dp, f"expect{each}{action}", functools.partial(self.expect, action))
        self.create_table, self.create_append = dp.create_streaming_table, dp.append_flow
        dp.create_streaming_table = self.create_streaming_table
        dp.append_flow = self.append_flow
        dp.create_auto_cdc_flow = self.create_auto_cdc_flow
        dp.create_auto_cdc_from_snapshot_flow = self.create_auto_cdc_from_snapshot_flow
        self.create_sink_before = dp.create_sink
        dp.create_sink = self.create_sink
        self.sinks = set()
        for reader in (type(self.spark.read), type(self.spark.readStream)):
            self.install_reader(reader)

    def expect(self, action, first, condition=None):
        conditions = first if isinstance(first, dict) else {first: condition}

        def decorate(function):
            @functools.wraps(function)
            def query():
                return judged(function(), action, conditions)

            return query

        return decorate

    def create_streaming_table(self, name, **arguments):
        self.rules[name] = {key[len("expect_all") :]: arguments.pop(key) for key in list(arguments) if "expect" in key}
        self.waiting[name] = arguments

    def append_flow(self, *, target, name=None, **arguments):
        if target in self.sinks:
            return lambda function: function
        if target in self.waiting:
            self.create_table(target, **self.waiting.pop(target))

        def decorate(function):
            @functools.wraps(function)
            def query():
                rows = function()
                for action, conditions in self.rules.get(target, {}).items():
                    rows = judged(rows, action, conditions)
                return rows

            return self.create_append(target=target, name=name, **arguments)(query)

        return decorate

    def create_sink(self, name, format, options):  # noqa: A002
        """Nothing is sent anywhere from a proof."""
        self.sinks.add(name)

    def create_auto_cdc_flow(
        self, target, source, keys, sequence_by, apply_as_deletes=None, except_column_list=(), stored_as_scd_type=1, **_
    ):
        given = self.waiting.pop(target)
        window = f"(PARTITION BY {', '.join(keys)} ORDER BY {sequence_by}"
        left_out = [*except_column_list]
        deleted = f"coalesce({apply_as_deletes}, false)" if apply_as_deletes else "false"

        def changed():
            rows = self.spark.read.table(source).selectExpr("*", f"{deleted} AS __deleted")
            if str(stored_as_scd_type) == "1":
                ranked = rows.selectExpr("*", f"row_number() OVER {window} DESC) AS __rank")
                latest = ranked.where("__rank = 1 AND NOT __deleted")
                return latest.selectExpr(f"* EXCEPT ({', '.join(['__rank', '__deleted', *left_out])})")
            versions = rows.selectExpr(
                "*", f"{sequence_by} AS __START_AT", f"lead({sequence_by}) OVER {window}) AS __END_AT"
            )
            return versions.where("NOT __deleted").selectExpr(f"* EXCEPT ({', '.join(['__deleted', *left_out])})")

        dp.materialized_view(name=target, comment=given.get("comment"))(changed)

    def create_auto_cdc_from_snapshot_flow(self, target, source, keys, stored_as_scd_type=1, **_):
        given = self.waiting.pop(target)
        history = ["current_timestamp() AS __START_AT", "CAST(NULL AS TIMESTAMP) AS __END_AT"]
        extra = history if str(stored_as_scd_type) == "2" else []
        dp.materialized_view(name=target, comment=given.get("comment"))(
            lambda: self.spark.read.table(source).selectExpr("*", *extra)
        )

    def install_reader(self, reader):
        places = self.places
        before = {name: getattr(reader, name) for name in ("format", "option", "schema", "load", "table")}

        def read(self, place):
            known = places[place]
            kafka = known["format"] == "text"
            made = before["format"](self, known["format"])
            made = made if kafka else before["schema"](made, known["ddl"])
            rows = before["load"](made, os.path.abspath(known["folder"]))
            rescued = getattr(self, "_rescued", None)
            return rows.selectExpr("*", f"CAST(NULL AS STRING) AS {rescued}") if rescued else rows

        def format_(self, name):
            return self if name in ("cloudFiles", "kafka") else before["format"](self, name)

        def option(self, key, value):
            if key == "subscribe":
                self._topic = f"kafka:{value}"
            if key == "rescuedDataColumn":
                self._rescued = value
            return self if key.startswith(SKIPPED) else before["option"](self, key, value)

        def load(self, path=None):
            return read(self, path or self._topic)

        def table(self, name):
            return read(self, name) if name in places else before["table"](self, name)

        reader.format, reader.option, reader.load, reader.table = format_, option, load, table
        reader.schema = lambda self, ddl: self


def judged(rows, action, conditions):
    for name, condition in conditions.items():
        if action == "_or_drop":
            rows = rows.where(condition)
        elif action == "_or_fail":
            failure = f"raise_error('The expectation {name} is not met.')"
            rows = rows.where(f"CASE WHEN coalesce(({condition}), false) THEN true ELSE {failure} END")
        else:
            rows = rows.where(f"coalesce(({condition}), true) OR true")
    return rows
