"""`pipeline_builder`: from a request to a pipeline's files, through the steps of `lakemesh.pipelines`."""

from lakemesh.agents.pipeline_builder.builder import PipelineBuilder
from lakemesh.agents.pipeline_builder.schemas import PipelineBuilderOptions

__all__ = ["PipelineBuilder", "PipelineBuilderOptions"]
