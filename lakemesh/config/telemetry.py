"""What is observed, how long it waits, where it goes."""

from pydantic import Field

from lakemesh.config.base import Section


class TelemetryConfig(Section):
    """Tables are `<catalog>.<schema>.<prefix>_otel_spans`, `agent_executions` and `model_inference_logs`, with the
    views `traces` and `telemetry`."""

    enabled: bool = True
    service_name: str = "lakemesh"
    catalog: str = "main"
    schema_name: str = Field(default="agents", alias="schema")
    prefix: str = Field(default="lakemesh", pattern=r"^[a-z][a-z0-9_]*$")
    sample_ratio: float = Field(default=1.0, ge=0, le=1, description="share of traces kept; rows are always kept")
    batch_size: int = Field(default=1_000, ge=1, description="records that make a batch")
    flush_seconds: float = Field(default=10.0, gt=0, description="age that makes a batch")
    buffer_size: int = Field(default=50_000, ge=100, description="records in memory; more are dropped and counted")
    spool_megabytes: int = Field(default=256, ge=1, description="records on disk; more are dropped and counted")
    capture_content: bool = Field(default=False, description="keep inputs and outputs in the execution rows")
    max_content_characters: int = Field(default=16_384, ge=0, description="longer content is cut, its length kept")
    retention_days: int = Field(default=30, ge=1)

    def table(self, name: str) -> str:
        return f"{self.catalog}.{self.schema_name}.{name}"
