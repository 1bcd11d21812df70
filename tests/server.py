"""A real lakemesh server on a loopback port, with its own home and configuration."""

import asyncio
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import uvicorn

from lakemesh.app import create_app
from lakemesh.config.settings import Settings
from lakemesh.edge.protocol import ConnectionRules, bounded_protocol

START_SECONDS = 30.0

MODELS = """
models:
  endpoints:
    offline: {serving_endpoint: offline}
  routes:
    quality: {endpoints: [offline]}
    fast: {endpoints: [offline]}
    embeddings: {endpoints: [offline]}
"""


class Server(uvicorn.Server):
    """Says when it is ready instead of being asked."""

    def __init__(self, config: uvicorn.Config) -> None:
        super().__init__(config)
        self.ready = threading.Event()

    async def startup(self, sockets: list | None = None) -> None:
        await super().startup(sockets)
        self.ready.set()

    @property
    def url(self) -> str:
        host, port = self.servers[0].sockets[0].getsockname()[:2]
        return f"http://{host}:{port}"


def write_config(folder: Path, agents: str, more: str = "", models: str = MODELS) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "prompts").mkdir(exist_ok=True)
    (folder / "lakemesh.yaml").write_text(f"agents:\n{agents}\n{models}\n{more}")
    return folder


@contextmanager
def running_server(home: Path, config_folder: Path, **settings: object) -> Iterator[Server]:
    """The server in a thread of its own, stopped by its own graceful way."""
    app = create_app(Settings(home=home, config_folder=config_folder, port=0, **settings))
    rules = ConnectionRules()
    app.on_config(rules.configure)
    protocol = bounded_protocol(rules)
    server = Server(
        uvicorn.Config(app, http=protocol, host="127.0.0.1", port=0, log_config=None, timeout_graceful_shutdown=5)
    )
    thread = threading.Thread(target=lambda: asyncio.run(server.serve()), daemon=True)
    thread.start()
    assert server.ready.wait(START_SECONDS), "the server did not start"
    try:
        yield server
    finally:
        server.should_exit = True
        thread.join(START_SECONDS)
        assert not thread.is_alive(), "the server did not stop"
