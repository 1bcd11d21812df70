"""`lakemesh serve`: run the server."""

import gc
import logging
import os
import socket
import sys
from typing import TYPE_CHECKING, Annotated

import typer

from lakemesh.allocator import keep_few_arenas
from lakemesh.errors import Unavailable

if TYPE_CHECKING:
    from lakemesh.app import App
    from lakemesh.config.settings import Settings


def serve(
    host: Annotated[str | None, typer.Option(help="Address to listen on; LAKEMESH_HOST or 127.0.0.1.")] = None,
    port: Annotated[
        int | None, typer.Option(help="Port; DATABRICKS_APP_PORT, LAKEMESH_PORT or 8000.", min=0, max=65535)
    ] = None,
    workers: Annotated[
        int | None, typer.Option(help="Server processes on the one port; LAKEMESH_WORKERS or 1.", min=1, max=64)
    ] = None,
) -> None:
    """Run the server and say what to call."""
    from lakemesh.app import create_app
    from lakemesh.config.settings import Settings
    from lakemesh.logs import configure_logging

    settings = Settings()
    settings = settings.model_copy(
        update={"host": host or settings.host, "port": settings.port if port is None else port}
    )
    configure_logging(settings.log_level)
    if sys.stderr.isatty():
        SERVER_LOG.setLevel(logging.CRITICAL)  # until it serves: why it does not is one sentence, said at the end
    count = settings.workers if workers is None else workers
    if count > 1:
        supervise(settings, count)
    else:
        run(create_app(settings), settings)


def supervise(settings: "Settings", count: int) -> None:
    """Keep that many workers serving until told to stop."""
    import asyncio

    from lakemesh.cli.supervisor import Supervisor

    if settings.database is None:
        typer.echo(PER_PROCESS, err=True)
    with listening(settings.host, settings.port) as listener:
        listener.listen(BACKLOG)
        supervisor = Supervisor(settings, listener, count=count)
        code = asyncio.run(supervisor.run(GREETING.format(base=base_of(listener))))
    if code:
        raise typer.Exit(code)


def run(app: "App", settings: "Settings") -> None:
    """Serve until told to stop. Raises why it could not start."""
    import uvicorn

    from lakemesh.cli.supervisor import inherited_listener, tell_ready
    from lakemesh.edge.protocol import ConnectionRules, bounded_protocol

    class Server(uvicorn.Server):
        """Says where it listens once it does."""

        async def startup(self, sockets: list[socket.socket] | None = None) -> None:
            await super().startup(sockets)
            if not self.started:
                return
            SERVER_LOG.setLevel(logging.NOTSET)
            if inherited is None:
                base = base_of(listener)
                SERVER_LOG.info("Uvicorn running on %s (Press CTRL+C to quit)", base)
                typer.echo(GREETING.format(base=base), err=True)
            spare_the_garbage_collector()
            tell_ready()

        async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
            rules.draining = True
            await super().shutdown(sockets)

    spare_memory()
    rules = ConnectionRules()
    app.on_config(rules.configure)
    config = uvicorn.Config(
        app,
        http=bounded_protocol(rules),
        log_config=None,
        access_log=False,
        server_header=False,
        timeout_graceful_shutdown=int(settings.drain_seconds),
    )
    inherited = inherited_listener()
    with inherited or listening(settings.host, settings.port) as listener:
        try:
            Server(config).run(sockets=[listener])
        except SystemExit:  # how uvicorn says that it did not start
            if app.start_error is None:
                raise
    if app.start_error is not None:
        raise app.start_error


def base_of(listener: socket.socket) -> str:
    host, port = listener.getsockname()[:2]
    return f"http://{f'[{host}]' if ':' in host else host}:{port}"


def listening(host: str, port: int) -> socket.socket:
    """The bound socket. Raises `Unavailable` with what to do when the address cannot be had."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listener = socket.socket(family)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((host, port))
    except OSError as error:
        listener.close()
        raise Unavailable(
            f"{host}:{port} cannot be listened on: {error.strerror or error}; choose another with --host and --port."
        ) from None
    return listener


def spare_the_garbage_collector() -> None:
    """What start-up made stays until the end, so the collector need not walk it again and again; and requests
    leave few cycles, so it need not run after every 700 new objects. Measured by `benchmarks/execute.py`."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(50_000, 20, 20)


def spare_memory() -> None:
    """Allocators keep what a burst of rows has needed, some 80 MB after a full load: Arrow's gives way to the system's,
    delta-rs' (jemalloc) gives back after a second and keeps few arenas. Both read this when they are first imported."""
    os.environ.setdefault("ARROW_DEFAULT_MEMORY_POOL", "system")
    os.environ.setdefault("_RJEM_MALLOC_CONF", "narenas:2,dirty_decay_ms:1000,muzzy_decay_ms:0")
    keep_few_arenas()


BACKLOG = 2_048
SERVER_LOG = logging.getLogger("uvicorn.error")
PER_PROCESS = (
    "Without LAKEMESH_DATABASE each worker keeps sessions, idempotency keys, rate limits and A2A tasks for itself."
)
GREETING = """lakemesh at {base}
  console   {base}/
  agents    {base}/api/agents
  execute   curl -s {base}/api/execute -H 'content-type: application/json' \\
              -d '{{"agent": "echo", "data": {{"message": "hello"}}}}'
  OpenAPI   {base}/docs
  health    {base}/health/ready
Stop with Ctrl-C."""
