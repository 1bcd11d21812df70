"""`lakemesh workspace`: serve the embedded workspace as if it were a Databricks one."""

from pathlib import Path
from typing import Annotated

import typer

STOP_SECONDS = 2


def workspace(
    home: Annotated[Path, typer.Option(help="Folder of the embedded workspace.")] = Path(".lakemesh"),
    host: Annotated[str, typer.Option(help="Address to listen on.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(help="Port to listen on.")] = 8100,
    latency_ms: Annotated[float, typer.Option(min=0, help="Added to every request.")] = 0.0,
) -> None:
    """Serve the embedded workspace over the REST API that the Databricks SDKs and tools speak."""
    import asyncio

    import uvicorn

    from lakemesh.emulator import create_emulator
    from lakemesh.lakehouse.embedded import open_workspace

    async def serve() -> None:
        opened = await open_workspace(home)
        try:
            app = create_emulator(opened, home=home, latency_seconds=latency_ms / 1_000)
            config = uvicorn.Config(app, host=host, port=port, access_log=False, timeout_graceful_shutdown=STOP_SECONDS)
            await uvicorn.Server(config).serve()
        finally:
            await opened.close()

    typer.echo(GREETING.format(base=f"http://{host}:{port}"), err=True)
    asyncio.run(serve())


GREETING = """workspace emulator at {base}
  export DATABRICKS_HOST={base} DATABRICKS_TOKEN=emulator-token
  export LAKEMESH_WORKSPACE=databricks LAKEMESH_WAREHOUSE_ID=emulator
Stop with Ctrl-C."""
