# mypy: ignore-errors
"""What Databricks' pipelines have and open-source Spark lacks, near enough to run a pipeline over a few rows.

Expectations become filters (`warn` keeps every row, but the condition is analysed; `fail` raises). Auto Loader, Kafka
and tables outside are read from folders. Several flows into one table are joined into one, as its files are those of
one flow. Changes are applied as one query over all of them, for want of a table format with MERGE. Imported in Spark's
environment, before a pipeline's modules.
"""

import functools
import os
import re

from pyspark import pipelines as dp

SKIPPED = ("cloudFiles.", "rescuedDataColumn", "kafka.", "subscribe", "startingOffsets", "failOnDataLoss")
ACTIONS = {"": "warn", "_or_drop": "drop", "_or_fail": "fail"}


class Shim:
    """`places` maps paths, `kafka:topic` and tables outside to `{"folder", "format", "ddl"}`; where `ddl` is None the
    code's own schema and options are used."""

    def __init__(self, spark):
        self.spark = spark
        self.begin({})

    def begin(self, places):
        """Forget the last pipeline."""
        self.places = places
        self.streaming = {}
        self.flows = {}
        self.sinks = set()
        self.tables = []
        self.judged = {}
        self.whole = False

    def install(self):
        for each in ("", "_all"):
            for action in ("", "_or_drop", "_or_fail"):
                setattr(dp, f"expect{each}{action}", functools.partial(self.expect, action))
        self.original = {name: getattr(dp, name) for name in ("table", "materialized_view", "append_flow",
                                                              "create_streaming_table", "temporary_view")}  # fmt: skip
        for name in ("table", "materialized_view", "temporary_view"):
            setattr(dp, name, functools.partial(self.declare, name))
        dp.create_streaming_table = self.create_streaming_table
        dp.append_flow = self.append_flow
        dp.create_auto_cdc_flow = self.create_auto_cdc_flow
        dp.create_auto_cdc_from_snapshot_flow = self.create_auto_cdc_from_snapshot_flow
        dp.create_sink = self.create_sink
        reads = {type(self.spark.read), type(self.spark.readStream)}
        for reader in reads:
            self.install_reader(reader)
        self.install_whole_reads()

    def install_whole_reads(self):
        """While rows are counted, streams are read whole."""
        shim, kind = self, type(self.spark)
        stream, sql = kind.readStream, kind.sql
        kind.readStream = property(lambda session: session.read if shim.whole else stream.fget(session))

        def whole_sql(session, text, *arguments, **named):
            text = re.sub(r"\bSTREAM(?=\s+[`\w])", "", text) if shim.whole else text
            return sql(session, text, *arguments, **named)

        kind.sql = whole_sql

    def expect(self, action, first, condition=None):
        conditions = first if isinstance(first, dict) else {first: condition}

        def decorate(function):
            @functools.wraps(function)
            def query():
                return judged(function(), action, conditions)

            kept = [(name, text, ACTIONS[action]) for name, text in conditions.items()]
            query.expectations = [*kept, *getattr(function, "expectations", [])]
            query.before = getattr(function, "before", function)
            return query

        return decorate

    def declare(self, kind, query_function=None, **arguments):
        if query_function is not None:
            return self.declare(kind)(query_function)

        def decorate(function):
            name = arguments.get("name") or function.__name__
            if kind != "temporary_view":
                self.tables.append(name)
            if hasattr(function, "expectations"):
                self.judged[name] = ([function.before], function.expectations)
            given = {key: value for key, value in arguments.items() if key in ("name", "comment", "schema")}
            return self.original[kind](**given)(function)

        return decorate

    def create_streaming_table(self, name, **arguments):
        rules = {key[len("expect_all") :]: arguments.pop(key) for key in list(arguments) if "expect" in key}
        self.streaming[name] = ({"comment": arguments.get("comment")}, rules)

    def append_flow(self, *, target, name=None, **arguments):
        def keep(function):
            self.flows.setdefault(target, []).append(function)
            return function

        return keep

    def create_sink(self, name, format, options):  # noqa: A002
        """Nothing is sent anywhere from here."""
        self.sinks.add(name)

    def end(self):
        """What only the whole pipeline says: the tables that flows fill."""
        for target, functions in self.flows.items():
            if target in self.sinks:
                continue
            given, rules = self.streaming.pop(target)
            self.original["create_streaming_table"](target, **given)
            self.tables.append(target)
            kept = [(name, text, ACTIONS[action]) for action, all_ in rules.items() for name, text in all_.items()]
            if kept:
                self.judged[target] = (functions, kept)
            self.original["append_flow"](target=target, name=f"{target}_flow")(united(functions, rules))

    def create_auto_cdc_flow(
        self, target, source, keys, sequence_by, apply_as_deletes=None, except_column_list=(), stored_as_scd_type=1, **_
    ):
        given, _ = self.streaming.pop(target)
        window = f"(PARTITION BY {', '.join(map(quoted, keys))} ORDER BY {sequence_by}"
        left_out = [*map(quoted, except_column_list)]
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

        self.tables.append(target)
        self.original["materialized_view"](name=target, comment=given["comment"])(changed)

    def create_auto_cdc_from_snapshot_flow(self, target, source, keys, stored_as_scd_type=1, **_):
        given, _ = self.streaming.pop(target)
        history = ["current_timestamp() AS __START_AT", "CAST(NULL AS TIMESTAMP) AS __END_AT"]
        extra = history if str(stored_as_scd_type) == "2" else []
        self.tables.append(target)
        self.original["materialized_view"](name=target, comment=given["comment"])(
            lambda: self.spark.read.table(source).selectExpr("*", *extra)
        )

    def counts(self):
        """Rows that met each expectation, and that did not, of all that were read; as the event log tells them."""
        found = []
        self.whole = True
        try:
            for dataset, (functions, expectations) in self.judged.items():
                rows = united(functions, {})()
                wanted = [f"count_if(coalesce(({condition}), false))" for _, condition, _ in expectations]
                total, *passed = rows.selectExpr("count(*)", *wanted).collect()[0]
                for (name, _, action), met in zip(expectations, passed, strict=True):
                    found.append({"name": name, "dataset": dataset, "action": action,
                                  "passed_records": met, "failed_records": total - met})  # fmt: skip
        finally:
            self.whole = False
        return found

    def install_reader(self, reader):
        shim = self
        before = {name: getattr(reader, name) for name in ("format", "option", "schema", "load", "table")}

        def read(self, place):
            known = shim.places[place]
            made = before["format"](self, known["format"])
            if known["format"] != "text":
                ddl = known["ddl"] or getattr(self, "_ddl", None) or shim.inferred(before, known, self)
                made = before["schema"](made, ddl)
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
            if not key.startswith(SKIPPED):
                self._given = {**getattr(self, "_given", {}), key: value}
            return self if key.startswith(SKIPPED) else before["option"](self, key, value)

        def schema(self, ddl):
            self._ddl = ddl
            return self

        def load(self, path=None):
            return read(self, path or self._topic)

        def table(self, name):
            return read(self, name) if name in shim.places else before["table"](self, name)

        reader.format, reader.option, reader.load, reader.table = format_, option, load, table
        reader.schema = schema

    def inferred(self, before, known, reader):
        """The schema that Spark finds in the files themselves."""
        made = before["format"](type(self.spark.read)(self.spark), known["format"])
        for key, value in getattr(reader, "_given", {}).items():
            made = before["option"](made, key, value)
        made = before["option"](made, "inferSchema", "true")
        return before["load"](made, os.path.abspath(known["folder"])).schema


def united(functions, rules):
    """One query of several flows into a table, by name."""

    def query():
        rows = functools.reduce(lambda left, right: left.unionByName(right), [function() for function in functions])
        for action, conditions in rules.items():
            rows = judged(rows, action, conditions)
        return rows

    return query


def quoted(name):
    return f"`{name}`"


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
