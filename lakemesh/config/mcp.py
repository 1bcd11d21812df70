"""The MCP server's section of the configuration, and the servers whose tools it uses."""

from pydantic import Field

from lakemesh.config.base import Section
from lakemesh.config.remotes import URL, RemoteServerConfig


class McpServerConfig(RemoteServerConfig):
    """Another MCP server. Each of its tools is an agent here, `<server>__<tool>`."""

    url: str = Field(pattern=URL, description="its endpoint")
    tools: list[str] | None = Field(default=None, description="which of its tools; else all")


class McpConfig(Section):
    """The MCP server at `/mcp`."""

    enabled: bool = True
    schemas: list[str] = Field(default=[], description="catalog.schema whose tables are resources: their columns")
    key: str | None = Field(
        default=None, repr=False, min_length=32, description="signs sessions and states; the same on every replica"
    )
    servers: dict[str, McpServerConfig] = Field(default={}, description="MCP servers whose tools are agents here")
