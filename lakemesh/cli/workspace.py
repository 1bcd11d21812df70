"""`lakemesh workspace`: serve the embedded workspace as if it were a Databricks one."""

from pathlib import Path
from typing import Annotated

import typer

from lakemesh.errors import InvalidRequest

STOP_SECONDS = 2
MIN_TOKEN_LENGTH = 16


def workspace(
    home: Annotated[Path, typer.Option(help="Folder of the embedded workspace.")] = Path(".lakemesh"),
    host: Annotated[str, typer.Option(help="Address to listen on.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65_535, help="Port to listen on.")] = 8100,
    token: Annotated[
        str | None,
        typer.Option(envvar="LAKEMESH_EMULATOR_TOKEN", help="The administrator's token, instead of one that is made."),
    ] = None,
    allow_host: Annotated[
        list[str] | None, typer.Option(help="Another name the emulator is reached by; repeatable.")
    ] = None,
    spark: Annotated[Path, typer.Option(envvar="LAKEMESH_SPARK", help="Where `make spark` put Spark.")] = Path(
        ".cache/spark"
    ),
    latency_ms: Annotated[float, typer.Option(min=0, help="Added to every request.")] = 0.0,
) -> None:
    """Serve the embedded workspace over the REST API that the Databricks SDKs and tools speak."""
    import asyncio

    import uvicorn

    from lakemesh.emulator import create_emulator
    from lakemesh.emulator.accounts import FILE, accounts_of
    from lakemesh.emulator.guard import LOOPBACK
    from lakemesh.lakehouse.embedded import open_workspace

    if host not in LOOPBACK and len(token or "") < MIN_TOKEN_LENGTH:
        problem = f"who reaches it can run programs here: give a token of {MIN_TOKEN_LENGTH} characters or more"
        raise InvalidRequest(f"The emulator listens on {host} only for those who hold a secret; {problem} (--token).")
    accounts = accounts_of(home, token or None)

    async def serve() -> None:
        opened = await open_workspace(home)
        try:
            names = [*(allow_host or ()), *(() if host in ("0.0.0.0", "::") else (host,))]  # noqa: S104 (compared)
            app = create_emulator(
                opened, home=home, accounts=accounts, hosts=names, latency_seconds=latency_ms / 1_000, spark=spark
            )
            config = uvicorn.Config(app, host=host, port=port, access_log=False, timeout_graceful_shutdown=STOP_SECONDS)
            await uvicorn.Server(config).serve()
        finally:
            await opened.close()

    shown = "$LAKEMESH_EMULATOR_TOKEN" if token else accounts.admin_token
    typer.echo(GREETING.format(base=f"http://{host}:{port}", token=shown, file=home / FILE), err=True)
    asyncio.run(serve())


GREETING = """workspace emulator at {base}
  export DATABRICKS_HOST={base} DATABRICKS_TOKEN={token}
  export LAKEMESH_WORKSPACE=databricks LAKEMESH_WAREHOUSE_ID=emulator
The token is kept in {file}. Stop with Ctrl-C."""
