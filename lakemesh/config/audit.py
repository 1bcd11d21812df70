"""The audit trail."""

from pydantic import Field, SecretStr

from lakemesh.config.base import Section


class AuditConfig(Section):
    """Who did what, or was refused, as signed records in a chain, in the table `audit` beside telemetry's."""

    enabled: bool = False
    key: SecretStr | None = Field(
        default=None, min_length=16, description="signs the records; give it as ${secrets.scope.key}"
    )
    sealed: bool = Field(
        default=False, description="persons' names and details under keys of theirs, which an erasure destroys"
    )
    anchors: str | None = Field(
        default=None,
        pattern=r"^/Volumes/[^/]+/[^/]+/[^/]+",
        description="a folder, best of another owner, where the newest record of each chain is written down",
    )
    anchor_seconds: float = Field(default=3_600.0, gt=0, description="how often; and when the server ends")
