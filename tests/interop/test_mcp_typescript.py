"""The official TypeScript client does real work against the fixture, in a session of a handshake revision."""

import json
import shutil
import subprocess
from pathlib import Path

import pytest

from benchmarks.server_process import server_process
from tests.judge import judged

CLIENT = Path(__file__).parent / "mcp_client.mjs"
CACHE = Path(__file__).parents[2] / ".cache/interop-mcp-typescript"
PACKAGES = ("node@22.23.3", "@modelcontextprotocol/client@2.4.0")

pytestmark = [judged, pytest.mark.skipif(shutil.which("npm") is None, reason="the client is installed by npm")]


@pytest.fixture(scope="module")
def node() -> Path:
    if not (CACHE / "installed").exists():
        CACHE.mkdir(parents=True, exist_ok=True)
        install = ["npm", "install", "--silent", "--no-audit", "--no-fund", "--prefix", str(CACHE), *PACKAGES]
        subprocess.run(install, check=True, timeout=300)
        (CACHE / "installed").touch()
    # Modules are found beside the script that asks for them.
    shutil.copy(CLIENT, CACHE / CLIENT.name)
    return CACHE / "node_modules/.bin/node"


def test_official_typescript_client(node: Path) -> None:
    with server_process("tests.mcp.fixture:app") as server:
        command = [node, CACHE / CLIENT.name, f"http://127.0.0.1:{server.port}/mcp"]
        finished = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert finished.returncode == 0, finished.stderr
    seen = json.loads(finished.stdout)
    assert (seen["version"], seen["session"]) == ("2025-11-25", True)
    assert seen["text"] == "This is a simple text response for testing."
    assert seen["progress"] == [0, 50, 100]
    assert seen["sampled"] == "LLM response: sampled x"
    assert "ada" in seen["elicited"]
    assert len(seen["logs"]) == 3
    assert seen["resumed"] == "Reconnection test completed"
    assert seen["prompt"] == "Prompt with arguments: arg1='1', arg2='2'"
    assert seen["resource"] == "This is the content of the static text resource."
    assert seen["completed"] == ["paris", "park", "party"]
    assert (seen["changes"], seen["cancelled"]) == (1, 1)
