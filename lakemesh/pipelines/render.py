"""A definition as code: one Python module a layer, the same bytes for the same definition.

Templates see literals and identifiers only: every value goes through a filter that writes a literal of the language,
and every expression is written anew from its tree.
"""

import json
import keyword
from collections.abc import Mapping
from functools import cache
from typing import TYPE_CHECKING, Any

from lakemesh.errors import ValidationFailed
from lakemesh.pipelines.check import check
from lakemesh.pipelines.definition import LAYERS, Dataset, PipelineDefinition, Sink, Source
from lakemesh.pipelines.expressions import canonical, quoted
from lakemesh.pipelines.graph import column_sql, quarantine_condition, sink_columns
from lakemesh.pipelines.render_sql import in_python, render_sql
from lakemesh.pipelines.sources import ddl_of, purpose_of, streams_from

if TYPE_CHECKING:
    from jinja2.sandbox import SandboxedEnvironment

EXPECTATIONS = {"warn": "expect", "drop": "expect_or_drop", "fail": "expect_or_fail", "quarantine": "expect_or_drop"}
EXPECT_ALL = {"expect": "expect_all", "expect_or_drop": "expect_all_or_drop", "expect_or_fail": "expect_all_or_fail"}
DECORATORS = {"streaming_table": "table", "materialized_view": "materialized_view", "temporary_view": "temporary_view"}
RESERVED = frozenset({"dp", "spark"})
FILE_OPTIONS: Mapping[str, Mapping[str, str]] = {"csv": {"header": "true"}, "json": {}, "parquet": {}, "avro": {}}


def render(definition: PipelineDefinition) -> dict[str, str]:
    """The pipeline's modules by path, in the definition's language. Raises `ValidationFailed` for one that has
    faults."""
    faults = [fault for fault in check(definition) if fault.level == "error"]
    if faults:
        raise ValidationFailed(
            f"The definition has {len(faults)} faults: {'; '.join(str(fault) for fault in faults[:3])}",
            [{"path": fault.path, "message": fault.message} for fault in faults],
        )
    files = {}
    for layer in LAYERS:
        if definition.language == "sql" and (text := render_sql(definition, layer)):
            files[f"transformations/{layer}.sql"] = text
        written = [each for each in definition.layer(layer) if definition.language == "python" or in_python(each)]
        blocks = [block for dataset in written for block in blocks_of(definition, dataset)]
        layers_sinks = [sink for sink in definition.sinks if layer_of(definition, sink) == layer]
        blocks += [block for sink in layers_sinks for block in sink_blocks(sink)]
        if blocks:
            values = {"definition": definition, "layer": layer, "blocks": blocks}
            files[f"transformations/{layer}.py"] = environment().get_template("layer.py.jinja").render(values)
    return files


@cache
def environment() -> "SandboxedEnvironment":
    from jinja2 import PackageLoader, StrictUndefined
    from jinja2.sandbox import SandboxedEnvironment

    made = SandboxedEnvironment(
        loader=PackageLoader("lakemesh.pipelines"),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
        autoescape=False,  # what is written is Python and Markdown; every value goes through a filter
    )
    made.filters.update(py=python_literal, doc=docstring, name=function_name, line=plain_line)
    return made


def python_literal(value: Any) -> str:
    """A literal of strings, numbers, lists and dictionaries; what JSON writes of these, Python reads as the same."""
    if value is True or value is False or value is None:
        return repr(value)
    if isinstance(value, dict):
        return "{" + ", ".join(f"{python_literal(key)}: {python_literal(item)}" for key, item in value.items()) + "}"
    if isinstance(value, list | tuple):
        return "[" + ", ".join(python_literal(item) for item in value) + "]"
    if not isinstance(value, str | int):
        raise TypeError(f"no literal of {type(value).__name__}")
    return json.dumps(value, ensure_ascii=False)


def docstring(text: str) -> str:
    """The inside of a docstring."""
    return text.replace("\\", "\\\\").replace('"', '\\"')


def plain_line(text: str) -> str:
    return " ".join(text.split())


def function_name(name: str) -> str:
    return f"{name}_" if keyword.iskeyword(name) or name in RESERVED else name


def layer_of(definition: PipelineDefinition, sink: Sink) -> str:
    dataset = definition.dataset(sink.input)
    return dataset.layer if dataset is not None else "gold"


def blocks_of(definition: PipelineDefinition, dataset: Dataset) -> list[dict[str, Any]]:
    """What a template writes, one block a definition of code."""
    comment = dataset.comment or purpose_of(dataset)
    arguments: dict[str, Any] = {"name": dataset.name, "comment": comment}
    if dataset.cluster_by and dataset.kind != "temporary_view":
        arguments["cluster_by"] = list(dataset.cluster_by)
    rules = [(EXPECTATIONS[rule.action], rule.name, canonical(rule.condition)) for rule in dataset.rules]
    if dataset.change_data is not None:
        return [call_block("create_streaming_table", arguments), change_block(dataset)]
    if dataset.append:
        for kind, name, condition in rules:
            arguments.setdefault(EXPECT_ALL[kind], {})[name] = condition
        flows = [
            query_block(
                "append_flow",
                {"target": dataset.name, "name": f"{dataset.name}_from_{name}"},
                definition,
                dataset,
                name,
            )
            for name in (dataset.input, *dataset.append)
        ]
        return [call_block("create_streaming_table", arguments), *flows]
    block = query_block(DECORATORS[dataset.kind], arguments, definition, dataset, dataset.input)
    block["rules"] = rules
    return [block, *quarantine_blocks(definition, dataset)]


def quarantine_blocks(definition: PipelineDefinition, dataset: Dataset) -> list[dict[str, Any]]:
    condition = quarantine_condition(dataset)
    if condition is None:
        return []
    names = ", ".join(rule.name for rule in dataset.rules if rule.action == "quarantine")
    arguments = {
        "name": f"{dataset.name}_quarantine",
        "comment": f"Rows that {dataset.name} refused, by the rules {names}.",
    }
    block = query_block(DECORATORS[dataset.kind], arguments, definition, dataset, dataset.input)
    block["chain"] = [*block["chain"], call("where", condition)]
    return [block]


def call_block(function: str, arguments: Mapping[str, Any]) -> dict[str, Any]:
    return {"type": "call", "function": function, "arguments": dict(arguments)}


def change_block(dataset: Dataset) -> dict[str, Any]:
    change = dataset.change_data
    assert change is not None
    arguments: dict[str, Any] = {"target": dataset.name, "source": dataset.input, "keys": list(change.keys)}
    if change.from_snapshots:
        arguments["stored_as_scd_type"] = change.scd_type
        return call_block("create_auto_cdc_from_snapshot_flow", arguments)
    arguments["sequence_by"] = quoted(change.sequence_by or "")
    if change.delete_when:
        arguments["apply_as_deletes"] = canonical(change.delete_when)
    if change.except_columns:
        arguments["except_column_list"] = list(change.except_columns)
    arguments["stored_as_scd_type"] = change.scd_type
    return call_block("create_auto_cdc_flow", arguments)


def query_block(
    decorator: str, arguments: Mapping[str, Any], definition: PipelineDefinition, dataset: Dataset, name: str
) -> dict[str, Any]:
    function = function_name(str(arguments["name"]))
    streaming = dataset.kind == "streaming_table"
    if dataset.joins or dataset.group_by:
        chain = [f"spark.{call('sql', query_of(dataset, streaming=streaming))[1:]}"]
    else:
        chain = reader(definition, name, streaming=streaming)
        if dataset.where:
            chain.append(call("where", canonical(dataset.where)))
        if dataset.columns:
            chain.append(
                call("selectExpr", *(f"{column_sql(column)} AS {quoted(column.name)}" for column in dataset.columns))
            )
        if dataset.deduplicate:
            chain.append(call("dropDuplicates", list(dataset.keys)))
    why = dataset.comment or purpose_of(dataset)
    return {"type": "query", "decorator": decorator, "arguments": dict(arguments), "function": function,
            "chain": chain, "rules": [], "why": why}  # fmt: skip


def sink_blocks(sink: Sink) -> list[dict[str, Any]]:
    options = {"kafka.bootstrap.servers": sink.brokers, "topic": sink.topic}
    columns = [f"{text} AS {quoted(name)}" for name, text in ((n, canonical(t)) for n, t in sink_columns(sink.key))]
    name = f"{sink.name}_flow"
    query = {
        "type": "query", "decorator": "append_flow", "arguments": {"target": sink.name, "name": name},
        "function": function_name(name), "rules": [], "why": f"Rows of {sink.input} as JSON to the topic {sink.topic}.",
        "chain": [f"spark.readStream{call('table', sink.input)}", call("selectExpr", *columns)],
    }  # fmt: skip
    return [call_block("create_sink", {"name": sink.name, "format": "kafka", "options": options}), query]


def call(method: str, *arguments: Any) -> str:
    return f".{method}({', '.join(python_literal(argument) for argument in arguments)})"


def reader(definition: PipelineDefinition, name: str, *, streaming: bool) -> list[str]:
    """The chain of calls that reads a source or a dataset."""
    source = definition.source(name)
    if source is None:
        below = definition.dataset(name)
        streams = streaming or (below is not None and below.kind == "temporary_view" and streams_from(definition, name))
        return [f"spark.{'readStream' if streams else 'read'}{call('table', name)}"]
    start = f"spark.{'readStream' if source.streaming else 'read'}"
    if source.format == "table":
        return [f"{start}{call('table', source.table)}"]
    if source.format == "kafka":
        return kafka_reader(start, source)
    return file_reader(start, source)


def file_reader(start: str, source: Source) -> list[str]:
    options: dict[str, str] = {}
    chain = [f"{start}{call('format', 'cloudFiles' if source.streaming else source.format)}"]
    hints = source.streaming and source.schema_evolution == "addNewColumns"
    if source.streaming:
        options["cloudFiles.format"] = source.format
        if not source.columns or hints:
            options["cloudFiles.inferColumnTypes"] = "true"
        if source.columns and hints:
            options["cloudFiles.schemaHints"] = ddl_of(source)
        options["cloudFiles.schemaEvolutionMode"] = source.schema_evolution
        if source.schema_evolution != "none":
            options["rescuedDataColumn"] = "_rescued_data"
    options |= FILE_OPTIONS[source.format]
    chain += [call("option", key, value) for key, value in options.items()]
    if source.columns and not hints:
        chain.append(call("schema", ddl_of(source)))
    return [*chain, call("load", source.path)]


def kafka_reader(start: str, source: Source) -> list[str]:
    options = {"kafka.bootstrap.servers": source.brokers, "subscribe": source.topic, "startingOffsets": "earliest"}
    payload = f"from_json(CAST(value AS STRING), '{ddl_of(source)}') AS payload"
    return [
        f"{start}{call('format', 'kafka')}",
        *(call("option", key, value) for key, value in options.items()),
        call("load"),
        call("selectExpr", payload),
        call("selectExpr", "payload.*"),
    ]


def query_of(dataset: Dataset, *, streaming: bool) -> str:
    """Joined or grouped rows as SQL."""
    columns = ", ".join(f"{column_sql(column)} AS {quoted(column.name)}" for column in dataset.columns)
    parts = [f"SELECT {columns}", f"FROM {'STREAM ' if streaming else ''}{quoted(dataset.input)}"]
    parts += [f"{join.how.upper()} JOIN {quoted(join.dataset)} ON {canonical(join.on)}" for join in dataset.joins]
    if dataset.where:
        parts.append(f"WHERE {canonical(dataset.where)}")
    if dataset.group_by:
        expressions = {column.name: canonical(column.sql) for column in dataset.columns}
        parts.append(f"GROUP BY {', '.join(expressions[name] for name in dataset.group_by)}")
    return " ".join(parts)
