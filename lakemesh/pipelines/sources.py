"""What Python and SQL say alike of how sources are read."""

from lakemesh.pipelines.definition import Dataset, PipelineDefinition, Source
from lakemesh.pipelines.expressions import quoted


def ddl_of(source: Source) -> str:
    return ", ".join(f"{quoted(column.name)} {column.type}" for column in source.columns)


def file_options(source: Source) -> dict[str, str]:
    """`read_files`' own names (Databricks SQL reference, "read_files")."""
    options = {"header": "true"} if source.format == "csv" else {}
    hints = source.streaming and source.schema_evolution == "addNewColumns"
    if source.columns:
        options["schemaHints" if hints else "schema"] = ddl_of(source)
    if source.streaming:
        options["schemaEvolutionMode"] = source.schema_evolution
        if source.schema_evolution != "none":
            options["rescuedDataColumn"] = "_rescued_data"
    return options


def streams_from(definition: PipelineDefinition, name: str) -> bool:
    """Whether a view stands on a streaming source."""
    while (dataset := definition.dataset(name)) is not None:
        if dataset.kind != "temporary_view":
            return False
        name = dataset.input
    source = definition.source(name)
    return source is not None and source.streaming


def purpose_of(dataset: Dataset) -> str:
    """Why the dataset is there, when nobody said."""
    if dataset.change_data is not None:
        kind = "every version" if dataset.change_data.scd_type == 2 else "the latest version"
        return f"{dataset.input}: {kind} by {', '.join(dataset.change_data.keys)}."
    if dataset.group_by:
        return f"{dataset.input} summed up by {', '.join(dataset.group_by)}."
    kept = {"bronze": "as it came", "silver": "cleaned", "gold": "for reading"}[dataset.layer]
    return f"{', '.join((dataset.input, *dataset.append))}, {kept}."
