"""The official TypeScript client does real work against the fixture, in a session of a handshake revision."""

import json
import shutil
import subprocess
from pathlib import Path

from benchmarks.server_process import server_process
from tests.interop.clients import modules_of, node
from tests.judge import judged

CLIENT = Path(__file__).parent / "mcp_client.mjs"

pytestmark = judged


def test_official_typescript_client(tmp_path: Path) -> None:
    # Modules are found beside the script that asks for them.
    (tmp_path / "node_modules").symlink_to(modules_of("mcp-typescript"))
    script = shutil.copy(CLIENT, tmp_path)
    with server_process("tests.mcp.fixture:app") as server:
        command = [node(), script, f"http://127.0.0.1:{server.port}/mcp"]
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
