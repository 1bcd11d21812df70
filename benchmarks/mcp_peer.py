"""The official SDK's bare server, one trivial tool, run in an environment that has `mcp` 2.x."""

from mcp.server.mcpserver import MCPServer
from mcp.server.transport_security import TransportSecuritySettings
from starlette.applications import Starlette


def bare(*, stateless: bool) -> Starlette:
    server = MCPServer("peer", log_level="ERROR")

    @server.tool()
    def echo(message: str) -> dict[str, str]:
        return {"message": message}

    open_host = TransportSecuritySettings(enable_dns_rebinding_protection=False)
    return server.streamable_http_app(json_response=True, stateless_http=stateless, transport_security=open_host)


modern_app = bare(stateless=False)
handshake_app = bare(stateless=True)
