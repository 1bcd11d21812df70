import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return int(listener.getsockname()[1])


@pytest.mark.skipif(os.environ.get("LAKEMESH_JUDGE") != "1", reason="takes half a minute; `make judge-clients` runs it")
def test_the_script_runs() -> None:
    script = Path(__file__).parent / "deploy.sh"
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"  # where `lakemesh` is
    environment = {**os.environ, "PATH": path, "PORT": str(free_port())}
    done = subprocess.run(["bash", script], capture_output=True, text=True, timeout=300, env=environment)
    assert done.returncode == 0, done.stdout + done.stderr
    assert '"message": "hello"' in done.stdout
