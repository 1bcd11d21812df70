"""What is observed, how long it waits, where it goes."""

from typing import Literal, Self

from pydantic import Field, model_validator

from lakemesh.config.base import Section

SinkName = Literal["delta", "zerobus", "otlp"]


class RedactionConfig(Section):
    """What is taken out of attributes, log lines and captured content before it is written anywhere. `attributes`
    are names of members at any depth, with `*` for any part of them, whatever their case; numbers under names of
    tokens, which are counts, stay. `patterns` are kinds of text found anywhere in a value; `token` are also passwords
    in URLs and what follows a name such as `password`."""

    attributes: list[str] = [
        "*password*", "*passwd*", "*passphrase*", "pwd", "*.pwd", "*_pwd", "*secret*", "*credential*",
        "*authorization*", "*cookie*", "*token*", "*api_key*", "*apikey*", "*api-key*", "*private_key*",
        "*access_key*", "*account_key*", "*connection_string*", "dsn", "*.dsn", "*_dsn", "*webhook_url*",
    ]  # fmt: skip
    patterns: list[Literal["card_number", "email", "token"]] = ["card_number", "token"]


class ZerobusConfig(Section):
    """`endpoint` is `https://<workspace id>.zerobus.<region>.cloud.databricks.com`. The service principal is the
    app's own (`DATABRICKS_CLIENT_ID`, `DATABRICKS_CLIENT_SECRET`) unless given."""

    endpoint: str = Field(pattern=r"^https?://")
    workspace_url: str = Field(pattern=r"^https?://")
    client_id: str
    client_secret: str = Field(repr=False)
    ack_timeout_seconds: float = Field(default=60.0, gt=0)


class OtlpConfig(Section):
    """`endpoint` without `/v1/traces`, which is added; `table_header` names the target table to Zerobus' OTLP."""

    endpoint: str = Field(default="http://localhost:4318", pattern=r"^https?://")
    headers: dict[str, str] = Field(default={}, repr=False)
    table_header: str | None = None
    signals: list[Literal["traces", "logs", "metrics"]] = Field(
        default=["traces", "logs", "metrics"],
        min_length=1,
        description="what the endpoint takes; the rest is not sent there. MLflow takes traces",
    )
    timeout_seconds: float = Field(default=10.0, gt=0)


class ContentConfig(Section):
    """Whose inputs, outputs and model messages are kept: executions of these agents, for these users. None is all of
    them; users are named here when they have consented."""

    agents: list[str] | None = None
    users: list[str] | None = None


class TelemetryConfig(Section):
    """Tables are `<catalog>.<schema>.<prefix>_otel_spans`, `_otel_logs` and `_otel_metrics`, `agent_executions` and
    `model_inference_logs`, with the views `traces`, `logs`, `metrics` and `telemetry`."""

    enabled: bool = True
    service_name: str = "lakemesh"
    catalog: str = "main"
    schema_name: str = Field(default="agents", alias="schema")
    prefix: str = Field(default="lakemesh", pattern=r"^[a-z][a-z0-9_]*$")
    sinks: list[SinkName] | None = Field(
        default=None,
        min_length=1,
        description="delta is the workspace's tables: delta-rs, or a staged file and COPY INTO. Unless given: zerobus "
        "where it is described, delta elsewhere",
    )
    zerobus: ZerobusConfig | None = None
    otlp: OtlpConfig = OtlpConfig()
    sample_ratio: float = Field(default=1.0, ge=0, le=1, description="share of traces kept; rows are always kept")
    keep_errors: bool = Field(default=True, description="keep traces with an error, whatever the ratio")
    keep_slower_than_ms: float | None = Field(default=None, gt=0, description="keep slow traces, whatever the ratio")
    batch_size: int = Field(default=1_000, ge=1, le=1_000_000, description="records that make a delivery")
    flush_seconds: float = Field(default=10.0, gt=0, description="age that makes a delivery")
    before_answer: bool = Field(
        default=False, description="an answer waits until its row and spans are in the spool; otherwise at most 250 ms"
    )
    buffer_size: int = Field(default=50_000, ge=100, description="records in memory; more are dropped and counted")
    spool_megabytes: int = Field(default=256, ge=1, description="records on disk; more are dropped and counted")
    spool_sync: Literal["full", "normal", "off"] = Field(
        default="full", description="full survives a power cut, normal a crash of the process; SQLite's synchronous"
    )
    capture_content: bool | ContentConfig = Field(
        default=False,
        description="keep inputs, outputs and model messages: of all, or {agents: [...], users: [...]}",
    )
    max_content_characters: int = Field(default=16_384, ge=0, description="longer content is cut, its length kept")
    redaction: RedactionConfig = RedactionConfig()
    log_level: Literal["debug", "info", "warning", "error"] | None = Field(
        default="info", description="log lines from this level on become rows; none with null"
    )
    instrument: list[str] = Field(
        default=[],
        description="OpenTelemetry instrumentors: asgi for requests, httpx, any that is installed",
    )
    metrics_seconds: float = Field(default=60.0, gt=0, description="how often metrics are read")
    metrics_idle_seconds: float = Field(
        default=3_600.0, gt=0, description="how long metrics wait to go along with other rows, so that idle is idle"
    )
    maintenance_hours: float = Field(default=6.0, gt=0, description="how often tables are compacted and vacuumed")
    retention_days: int = Field(default=30, ge=1)

    @model_validator(mode="after")
    def _zerobus_is_described(self) -> Self:
        if "zerobus" in self.sink_names and self.zerobus is None:
            raise ValueError("the sink 'zerobus' needs the section zerobus")
        return self

    def captures(self, agent: str | None, user: str | None) -> bool:
        """Whether content of this agent's executions for this user is kept."""
        wanted = self.capture_content
        if isinstance(wanted, bool):
            return wanted
        return (wanted.agents is None or agent in wanted.agents) and (wanted.users is None or user in wanted.users)

    @property
    def sink_names(self) -> list[SinkName]:
        """The sinks, or the default for this configuration."""
        return self.sinks or (["zerobus"] if self.zerobus is not None else ["delta"])

    def table(self, name: str) -> str:
        return f"{self.catalog}.{self.schema_name}.{name}"
