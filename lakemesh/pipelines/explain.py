"""What a pipeline does, in sentences from its code; what a failure was about, by the engine's error class."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from lakemesh.lakehouse.pipelines import PipelineEvent
from lakemesh.pipelines.definition import PipelineDefinition
from lakemesh.pipelines.gate import code_of, judge_file, source_of
from lakemesh.pipelines.graph import Flow, Graph, Node
from lakemesh.pipelines.record import record

PROPOSALS: Mapping[str, str] = {
    "TABLE_OR_VIEW_NOT_FOUND": "name a source or a dataset that exists as input, or let the pipeline read that table",
    "UNRESOLVED_COLUMN": "correct the column's name in the expression, or add it to the source's columns",
    "DATATYPE_MISMATCH": "cast the column in its expression to the type that the function takes",
    "CAST_INVALID_INPUT": "read the column as STRING and use try_cast, or quarantine rows that do not fit",
    "PIPELINE_DUPLICATE_IDENTIFIERS": "give one of the two datasets another name",
    "INVALID_FLOW_QUERY_TYPE.BATCH_RELATION_FOR_STREAMING_TABLE": "make the dataset a materialized_view",
    "INVALID_FLOW_QUERY_TYPE.STREAMING_RELATION_FOR_MATERIALIZED_VIEW": "make the dataset a streaming_table",
    "USER_RAISED_EXCEPTION": "a rule with the action fail was not met: quarantine those rows, or mend the source",
    "EXPECTATION_VIOLATION": "a rule with the action fail was not met: quarantine those rows, or mend the source",
    "CF_EMPTY_DIR_FOR_SCHEMA_INFERENCE": "give the source's columns, or wait until its first file is there",
    "UNABLE_TO_INFER_SCHEMA": "give the source's columns, or wait until its first file is there",
    "DELTA_MULTIPLE_SOURCE_ROW_MATCHING_TARGET_ROW_IN_MERGE": "name keys that tell the rows apart",
    "APPLY_CHANGES_FROM_SNAPSHOT_ERROR.DUPLICATE_KEY_VIOLATION": "name keys that tell the rows apart",
    "STREAMING_STATEFUL_OPERATOR_NOT_MATCH_IN_STATE_METADATA": "start with a full refresh of the changed table",
    "DIFFERENT_DELTA_TABLE_READ_BY_STREAMING_SOURCE": "start with a full refresh of the changed table",
    "INSUFFICIENT_PERMISSIONS": "have the grants given that the message names",
    "LAKEMESH_GATE.REFUSED": "write the transformation as a definition; the code holds what may not run",
}
"""By error class, the longest prefix first: what to change (Spark's and Databricks' lists of error conditions)."""


@dataclass(frozen=True, slots=True)
class Explanation:
    """`dataset` is where it happened, when the event says so; `proposal` what to change, None for an unknown class."""

    error_class: str
    message: str
    dataset: str | None
    proposal: str | None

    def __str__(self) -> str:
        place = f" in {self.dataset}" if self.dataset else ""
        return f"{self.error_class}{place}: {self.proposal or self.message}"


def explain_failure(definition: PipelineDefinition, events: Sequence[PipelineEvent]) -> Explanation | None:
    """Of the last event that has an error."""
    failed = [event for event in events if event.error_class]
    if not failed:
        return None
    event = failed[-1]
    known = event.error_class or ""
    message = (event.error_message or event.message)[:1_000]
    named = [dataset.name for dataset in definition.datasets if f"`{dataset.name}`" in message or
             f"'{dataset.name}'" in message or f".{dataset.name}" in message]  # fmt: skip
    return Explanation(known, message, event.dataset or (named[0] if named else None), proposal_for(known))


def proposal_for(error_class: str) -> str | None:
    for prefix in sorted(PROPOSALS, key=len, reverse=True):
        if error_class == prefix or error_class.startswith(f"{prefix}."):
            return PROPOSALS[prefix]
    return None


def explain(files: Mapping[str, str]) -> list[str]:
    """A sentence each for what the code makes. Code that the gate refuses is not explained: what it does is not what
    it declares. Raises nothing; the sentences say so."""
    code = code_of(files) or {path: text for path, text in files.items() if path.endswith(".py")}
    for path, text in {**code, **source_of(files)}.items():
        if refusals := judge_file(path, text):
            return [f"{path} is not explained, for it would not be run: {refusals[0]}."]
    return list(sentences(record(code)))


def sentences(graph: Graph) -> Iterator[str]:
    for name, node in graph.nodes.items():
        reads = " and ".join(sorted(node.reads))
        kind = node.kind.replace("_", " ")
        article = "an" if kind[0] in "aeiou" else "a"
        yield f"{name} is {article} {kind}" + (f" of {reads}" if reads else "") + f"{detail(node)}."


def detail(node: Node) -> str:
    said = [part for flow in node.flows for part in parts_of(flow)]
    said += [f"rows that miss {rule} ({condition}) are {WHAT_BECOMES[action]}"
             for rule, condition, action in sorted(node.rules)]  # fmt: skip
    return "".join(f"; {part}" for part in said)


WHAT_BECOMES = {"warn": "counted", "drop": "dropped", "fail": "a reason to stop"}


def parts_of(flow: Flow) -> Iterator[str]:
    changes = dict(flow.changes)
    if changes:
        kept = "every version" if changes["scd"] == "2" else "the latest version"
        order = f", in the order of {changes['sequence_by']}" if changes.get("sequence_by") else ""
        yield f"it keeps {kept} by {changes['keys']}{order}"
        if changes.get("delete_when"):
            yield f"a row is deleted when {changes['delete_when']}"
    if flow.filters:
        yield f"only rows where {' and '.join(flow.filters)}"
    computed = [f"{name} = {text}" for name, text in flow.columns if name != text]
    if computed:
        yield f"with {', '.join(computed)}"
    if flow.group_by:
        yield f"one row for each {', '.join(flow.group_by)}"
    if flow.deduplicated_by:
        yield f"one row for each {', '.join(flow.deduplicated_by)}"
