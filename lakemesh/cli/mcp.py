"""`lakemesh mcp`: the MCP server on standard input and output, for an IDE that starts it."""

import asyncio
import secrets
from typing import TYPE_CHECKING

from lakemesh.errors import InvalidRequest

if TYPE_CHECKING:
    from lakemesh.config.settings import Settings


def mcp() -> None:
    """Serve agents, prompts and resources as MCP on standard input and output. Logs go to stderr."""
    asyncio.run(serve_here())


def require_configuration(settings: "Settings") -> None:
    """An IDE starts the command in a folder of its own choice, where nothing is to be made. Raises `InvalidRequest`."""
    folder = settings.config_folder.absolute()
    if settings.workspace == "embedded" and not folder.is_dir():
        raise InvalidRequest(
            f"There is no folder {str(folder)!r}: set LAKEMESH_CONFIG_FOLDER and LAKEMESH_HOME to absolute paths in "
            "the 'env' of the client's configuration."
        )


async def serve_here() -> None:
    from lakemesh.composition.services import open_services
    from lakemesh.config.settings import Settings
    from lakemesh.governance.identity import LOCAL
    from lakemesh.logs import configure_logging
    from lakemesh.mcp.engine_provider import EngineProvider
    from lakemesh.mcp.methods import Methods
    from lakemesh.mcp.stdio import serve_stdio

    settings = Settings()
    configure_logging(settings.log_level)
    require_configuration(settings)
    async with open_services(settings) as services:
        services.config.start()
        provider = EngineProvider(
            router=services.router, prompts=services.prompts, config=services.config, workspace=services.workspace
        )
        max_line_bytes = services.config.current.limits.max_body_bytes
        await serve_stdio(Methods(provider, key=secrets.token_bytes(32)), identity=LOCAL, max_line_bytes=max_line_bytes)
