"""The console: the server's agents, executions, traces and dashboards as pages."""

from lakemesh.services.console.api import Console, console_routes

__all__ = ["Console", "console_routes"]
