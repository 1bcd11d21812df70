"""`lakemesh serve`: run the server."""

from typing import Annotated

import typer


def serve(
    host: Annotated[str | None, typer.Option(help="Address to listen on; LAKEMESH_HOST or 127.0.0.1.")] = None,
    port: Annotated[int | None, typer.Option(help="Port; DATABRICKS_APP_PORT, LAKEMESH_PORT or 8000.")] = None,
) -> None:
    """Run the server and say what to call."""
    import uvicorn

    from lakemesh.app import create_app
    from lakemesh.config.settings import Settings
    from lakemesh.logs import configure_logging

    settings = Settings()
    settings = settings.model_copy(
        update={"host": host or settings.host, "port": settings.port if port is None else port}
    )
    configure_logging(settings.log_level)
    if settings.port:
        typer.echo(GREETING.format(base=f"http://{settings.host}:{settings.port}"), err=True)
    uvicorn.run(
        create_app(settings),
        host=settings.host,
        port=settings.port,
        log_config=None,
        access_log=False,
        server_header=False,
        timeout_graceful_shutdown=int(settings.drain_seconds),
    )


GREETING = """lakemesh at {base}
  console   {base}/
  agents    {base}/api/agents
  execute   curl -s {base}/api/execute -H 'content-type: application/json' \\
              -d '{{"agent": "echo", "data": {{"message": "hello"}}}}'
  OpenAPI   {base}/docs
  health    {base}/health/ready
Stop with Ctrl-C."""
