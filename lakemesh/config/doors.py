"""The protocol doors: MCP and A2A, as servers and towards others."""

from lakemesh.config.base import Section


class McpConfig(Section):
    enabled: bool = True


class A2aConfig(Section):
    enabled: bool = True
