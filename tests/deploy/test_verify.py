"""What `lakemesh verify` makes of an app that is not well, seen by its operators and by others."""

import hashlib
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from lakemesh.deploy.verify import Verification
from lakemesh.errors import Unavailable
from tests.server import running_server, write_config

AGENTS = """  echo: {class: lakemesh.agents.echo:EchoAgent}
  broken: {class: tests.agents.sample_agents:BrokenStartAgent}"""


def verification(url: str, user: str) -> Verification:
    """Of an app at `url`, as `user`; nothing else of a workspace is asked."""
    config = SimpleNamespace(authenticate=lambda: {"Authorization": f"Bearer {user}"})
    target: Any = SimpleNamespace(
        bundle=SimpleNamespace(app={"name": "app"}),
        client=SimpleNamespace(config=config),
        find=lambda path: {"url": url},
    )
    return Verification(target, timeout_seconds=3.0)


def test_an_app_that_is_degraded_is_not_verified_whoever_asks(tmp_path: Path) -> None:
    tokens = [f"{{user: {name}, sha256: {hashlib.sha256(name.encode()).hexdigest()}}}" for name in ("ann", "bob")]
    more = f"auth: {{tokens: [{', '.join(tokens)}]}}\nserver: {{operators: [ann]}}\n"
    with running_server(tmp_path / "home", write_config(tmp_path / "config", AGENTS, more=more)) as server:
        server.health({"authorization": "Bearer ann"})  # has warmed up
        with pytest.raises(Unavailable, match=r"degraded.*broken"):
            verification(server.url, "ann").ready()
        with pytest.raises(Unavailable, match=r"degraded: server\.operators names who may read the reasons"):
            verification(server.url, "bob").ready()
