import asyncio
from pathlib import Path

import pytest

from lakemesh.testing import serve


def test_the_official_client_calls_the_tool() -> None:
    pytest.importorskip("mcp", reason="needs the official client: pip install mcp (`make judge-clients` has it)")
    from call_convert import ask

    with serve(Path(__file__).parent / "config") as server:
        tools, answer = asyncio.run(ask(f"{server.url}/mcp", 100))
        assert tools == ["convert"]
        assert answer == {"euros": 92.0}
        [done] = server.executions("convert")
        assert done.door == "mcp"
