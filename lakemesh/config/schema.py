"""The whole configuration: `lakemesh.yaml`, as typed sections."""

from pydantic import Field

from lakemesh.config.a2a import A2aConfig
from lakemesh.config.agents import AgentConfig
from lakemesh.config.base import Section
from lakemesh.config.doors import ConsoleConfig, McpConfig
from lakemesh.config.governance import AuthConfig, LimitsConfig
from lakemesh.config.memory import MemoryConfig
from lakemesh.config.models import ModelsConfig
from lakemesh.config.prompts import PromptsConfig
from lakemesh.config.telemetry import TelemetryConfig


class Config(Section):
    """Everything a file may say. Sections that are left out take their defaults."""

    refresh_seconds: float = Field(default=300.0, gt=0, description="how often the files are read again")
    agents: dict[str, AgentConfig]
    models: ModelsConfig
    prompts: PromptsConfig = PromptsConfig()
    memory: MemoryConfig = MemoryConfig()
    telemetry: TelemetryConfig = TelemetryConfig()
    limits: LimitsConfig = LimitsConfig()
    auth: AuthConfig = AuthConfig()
    console: ConsoleConfig = ConsoleConfig()
    mcp: McpConfig = McpConfig()
    a2a: A2aConfig = A2aConfig()
