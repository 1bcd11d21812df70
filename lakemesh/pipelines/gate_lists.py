"""The lists that the gate goes by: what a pipeline's module may import, declare, call and set."""

import re

from lakemesh.lakehouse.sql_functions import COMPUTING, GENERATORS
from lakemesh.pipelines import expressions

IMPORTS = {
    "pyspark": {"pipelines"},
    "pyspark.sql": {"functions", "Window", "types"},
}
DECLARING = {"table", "materialized_view", "temporary_view", "append_flow"}
EXPECTING = {f"expect{each}{action}" for each in ("", "_all") for action in ("", "_or_drop", "_or_fail")}
CREATING = {"create_streaming_table", "create_auto_cdc_flow", "create_auto_cdc_from_snapshot_flow", "create_sink"}
ARGUMENTS = {
    "table": {"name", "comment", "cluster_by", "table_properties", "schema"},
    "materialized_view": {"name", "comment", "cluster_by", "table_properties", "schema"},
    "temporary_view": {"name", "comment"},
    "append_flow": {"target", "name"},
    "create_streaming_table": {
        "name", "comment", "cluster_by", "table_properties", "schema",
        "expect_all", "expect_all_or_drop", "expect_all_or_fail",
    },
    "create_auto_cdc_flow": {
        "target", "source", "keys", "sequence_by", "apply_as_deletes", "column_list", "except_column_list",
        "stored_as_scd_type", "name", "track_history_column_list", "track_history_except_column_list",
    },
    "create_auto_cdc_from_snapshot_flow": {
        "target", "source", "keys", "stored_as_scd_type",
        "track_history_column_list", "track_history_except_column_list",
    },
    "create_sink": {"name", "format", "options"},
}  # fmt: skip
SQL_METHODS = {"where", "filter", "selectExpr", "expr"}
METHODS = SQL_METHODS | {
    "sql", "table", "format", "option", "schema", "load", "read", "readStream",
    "select", "withColumn", "withColumnRenamed", "withWatermark", "groupBy", "agg", "join", "crossJoin", "union",
    "unionByName", "distinct", "dropDuplicates", "dropDuplicatesWithinWatermark", "drop", "dropna", "fillna", "orderBy",
    "limit", "alias", "cast", "asc", "desc", "isNull", "isNotNull", "isin", "between", "like", "otherwise", "over",
    "partitionBy", "startswith", "endswith", "contains", "substr", "getItem", "getField",
}  # fmt: skip
FUNCTIONS = COMPUTING | GENERATORS | {"col", "column", "lit", "expr", "when", "desc", "asc", "broadcast"}
FUNCTIONS -= expressions.REFUSED_FUNCTIONS
FORMATS = {"cloudFiles", "csv", "json", "parquet", "avro", "kafka", "delta", "text"}
OPTIONS = re.compile(
    r"cloudFiles\.(format|inferColumnTypes|schemaHints|schemaEvolutionMode|includeExistingFiles|maxFilesPerTrigger"
    r"|maxBytesPerTrigger)|rescuedDataColumn|header|delimiter|sep|multiLine|encoding|inferSchema|dateFormat"
    r"|timestampFormat|mode|nullValue|kafka\.bootstrap\.servers|subscribe|startingOffsets|maxOffsetsPerTrigger"
    r"|failOnDataLoss|readChangeFeed|skipChangeCommits|startingVersion|ignoreDeletes|topic"
)
SOURCE_OPTIONS = {
    "format", "header", "schema", "schemaHints", "schemaEvolutionMode", "rescuedDataColumn", "inferColumnTypes",
    "includeExistingFiles", "maxFilesPerTrigger", "maxBytesPerTrigger", "delimiter", "sep", "multiLine", "encoding",
    "dateFormat", "timestampFormat", "mode", "nullValue",
}  # fmt: skip
VOLUME = re.compile(r"/Volumes(/[A-Za-z0-9_][A-Za-z0-9_=-]*(\.[A-Za-z0-9_-]+)*){3,20}/?")
TABLE = re.compile(r"[A-Za-z][A-Za-z0-9_]*(\.[A-Za-z][A-Za-z0-9_]*){0,2}")
NAME = re.compile(r"[A-Za-z][A-Za-z0-9_]{0,254}")
PROPERTY = re.compile(r"(delta|pipelines)\.[A-Za-z0-9.]{1,100}|quality")
BROKERS = re.compile(r"[A-Za-z0-9.-]+:[0-9]{1,5}(,[A-Za-z0-9.-]+:[0-9]{1,5}){0,9}")
