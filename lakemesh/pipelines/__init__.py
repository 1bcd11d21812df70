"""Declarative pipelines: a definition is checked, rendered, judged and proved on Spark.

Each step is a function of its own; `lakemesh pipeline` only orders them.
"""

from lakemesh.pipelines.definition import PipelineDefinition, read_definition, write_definition

__all__ = ["PipelineDefinition", "read_definition", "write_definition"]
