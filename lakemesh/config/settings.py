"""What the process is told by its environment, before it can read any configuration.

Databricks Apps sets `DATABRICKS_APP_NAME`, `DATABRICKS_APP_PORT`, `DATABRICKS_HOST` and the service principal's
`DATABRICKS_CLIENT_ID` and `DATABRICKS_CLIENT_SECRET` (Databricks Apps documentation, "app environment"). Model Serving
sets `IS_IN_DB_MODEL_SERVING_ENV` and the workspace's address (databricks-sdk, `credentials_provider.py`).
"""

from pathlib import Path
from typing import Literal

from pydantic import AliasChoices, Field, SecretStr
from pydantic_settings import BaseSettings, SettingsConfigDict


class Settings(BaseSettings):
    """`LAKEMESH_*`, and what Databricks Apps sets."""

    model_config = SettingsConfigDict(env_prefix="LAKEMESH_", extra="ignore", frozen=True)

    workspace: Literal["embedded", "databricks"] = "embedded"
    environment: str = Field(default="dev", pattern=r"^[a-z][a-z0-9_-]{0,31}$")
    config: str = "/Volumes/main/agents/configs/lakemesh.yaml"
    home: Path = Field(default=Path(".lakemesh"), description="folder of the embedded workspace and of the spool")
    config_folder: Path = Field(default=Path("config"), description="stands for the config volume on a laptop")
    local_config: bool = Field(
        default=False, description="on Databricks too configuration and prompts are read from the folder"
    )
    host: str = "127.0.0.1"
    port: int = Field(
        default=8000, validation_alias=AliasChoices("LAKEMESH_PORT", "DATABRICKS_APP_PORT"), ge=0, le=65535
    )
    workers: int = Field(default=1, ge=1, le=64, description="server processes on the one port")
    sealing_key: SecretStr | None = Field(
        default=None, description="signs what clients hand back, when mcp.key is not set; workers get one in common"
    )
    allow_unauthenticated: bool = Field(
        default=False, description="listen beyond loopback although nobody has to authenticate"
    )
    log_level: Literal["debug", "info", "warning", "error"] = "info"
    drain_seconds: float = Field(default=10.0, gt=0, description="the platform kills 15 s after SIGTERM")
    app_name: str | None = Field(default=None, validation_alias="DATABRICKS_APP_NAME")
    databricks_host: str | None = Field(
        default=None,
        validation_alias=AliasChoices(
            "DATABRICKS_HOST", "DATABRICKS_MODEL_SERVING_HOST_URL", "DB_MODEL_SERVING_HOST_URL"
        ),
    )
    databricks_client_id: str | None = Field(default=None, validation_alias="DATABRICKS_CLIENT_ID")
    databricks_client_secret: SecretStr | None = Field(default=None, validation_alias="DATABRICKS_CLIENT_SECRET")
    databricks_token: SecretStr | None = Field(default=None, validation_alias="DATABRICKS_TOKEN")
    default_credentials: bool = Field(
        default=False, description="the SDK looks for credentials; they are the one user's for whom the process works"
    )
    in_model_serving: bool = Field(
        default=False,
        validation_alias=AliasChoices("IS_IN_DB_MODEL_SERVING_ENV", "IS_IN_DATABRICKS_MODEL_SERVING_ENV"),
    )
    warehouse_id: str | None = Field(
        default=None, validation_alias=AliasChoices("LAKEMESH_WAREHOUSE_ID", "DATABRICKS_WAREHOUSE_ID")
    )

    database: SecretStr | None = Field(
        default=None,
        description="PostgreSQL for durable runs and sessions: 'embedded' (the laptop's own), 'lakebase', or a URL",
    )
    lakebase_instance: str | None = Field(default=None, description="name of a provisioned Lakebase instance")
    lakebase_endpoint: str | None = Field(
        default=None,
        validation_alias=AliasChoices("LAKEMESH_LAKEBASE_ENDPOINT", "LAKEBASE_AUTOSCALING_ENDPOINT"),
        description="an autoscaling Lakebase endpoint: projects/<p>/branches/<b>/endpoints/<e>",
    )
    spark: Path = Field(default=Path(".cache/spark"), description="where `make spark` put Spark, for pipelines")
    vector_search_endpoint: str = Field(default="lakemesh", description="the search endpoint that serves the indexes")
    vector_search_endpoint_type: Literal["STANDARD", "STORAGE_OPTIMIZED"] = Field(
        default="STANDARD", description="how it is made when it is not there: quick, or cheap and large"
    )

    @property
    def behind_platform_proxy(self) -> bool:
        """Only Databricks Apps' own proxy may vouch for an identity through `X-Forwarded-*` headers."""
        return self.app_name is not None
