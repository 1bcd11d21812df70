"""What is observed, how long it waits, where it goes."""

from typing import Literal

from pydantic import Field

from lakemesh.config.base import Section


class TelemetryConfig(Section):
    enabled: bool = True
    service_name: str = "lakemesh"
    catalog: str = "main"
    schema_name: str = Field(default="agents", alias="schema")
    sink: Literal["delta"] = "delta"
    batch_size: int = Field(default=1_000, ge=1)
    flush_seconds: float = Field(default=10.0, gt=0)
    buffer_size: int = Field(default=50_000, ge=100)
    capture_content: bool = Field(default=False, description="keep inputs and outputs in the execution rows")
    retention_days: int = Field(default=30, ge=1)
