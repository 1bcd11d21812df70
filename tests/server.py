"""A real lakemesh server on a loopback port, with its own home and configuration."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from lakemesh.config.settings import Settings
from lakemesh.testing.server import ThreadedServer as Server
from lakemesh.testing.server import threaded_server

__all__ = ["MODELS", "Server", "running_server", "write_config"]

MODELS = """
models:
  endpoints:
    offline: {serving_endpoint: offline}
  routes:
    quality: {endpoints: [offline]}
    fast: {endpoints: [offline]}
    embeddings: {endpoints: [offline]}
"""


def write_config(folder: Path, agents: str, more: str = "", models: str = MODELS) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "prompts").mkdir(exist_ok=True)
    (folder / "lakemesh.yaml").write_text(f"agents:\n{agents}\n{models}\n{more}")
    return folder


@contextmanager
def running_server(home: Path, config_folder: Path, **settings: object) -> Iterator[Server]:
    """The server in a thread of its own, stopped by its own graceful way."""
    with threaded_server(Settings(home=home, config_folder=config_folder, port=0, **settings)) as server:
        yield server
