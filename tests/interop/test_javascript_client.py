"""The JavaScript client, built from this version's OpenAPI document, against a server with a database."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from lakemesh.testing import serve
from tests.interop.clients import modules_of, node
from tests.judge import judged

pytestmark = judged

ROOT = Path(__file__).parents[2]
SCRIPT = Path(__file__).parent / "scripts/javascript_client.mjs"
SAMPLES = "tests.agents.sample_agents"
AGENTS = {
    "echo": "echo",
    "writer": f"{SAMPLES}:WriterAgent",
    "trouble": f"{SAMPLES}:TroubleAgent",
    "asking": f"{SAMPLES}:AskingAgent",
}


def run(*command: str | Path, folder: Path) -> str:
    done = subprocess.run([str(word) for word in command], capture_output=True, text=True, timeout=180, cwd=folder)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_it_compiles_and_does_what_it_says(tmp_path: Path, postgres: str) -> None:
    folder = tmp_path / "client"
    left_out = shutil.ignore_patterns("node_modules", "dist", "openapi.*")
    shutil.copytree(ROOT / "clients/javascript", folder, ignore=left_out)
    modules = modules_of("openapi-typescript")
    (folder / "node_modules").symlink_to(modules)
    with serve(AGENTS, database=postgres) as server:
        (folder / "openapi.json").write_text(server.http.get("/openapi.json").text)
        run(node(), modules / ".bin/openapi-typescript", "openapi.json", "-o", "src/openapi.ts", folder=folder)
        run(node(), modules / ".bin/tsc", folder=folder)
        shutil.copy(SCRIPT, folder)
        seen: dict[str, Any] = json.loads(run(node(), SCRIPT.name, server.url, folder=folder))
    assert seen == {
        "result": {"message": "hello"},
        "same": True,
        "streamed": ["a", "ü", "c"],
        "last": "completed",
        "batch": [{"message": "one"}, "unknown_agent"],
        "agents": ["asking", "echo", "trouble", "writer"],
        "refused": [True, "validation_failed", 422, "data.words"],
        "failed": ["unavailable", True, "string"],
        "chosen": {"color": "red", "count": 1, "sure": True},
        "invocation": [True, "completed", {"message": "later"}],
        "followed": ["completed", 1],
        "cancelled": True,
        "health": "object",
    }


@pytest.mark.skipif(shutil.which("npm") is None, reason="needs npm")
def test_its_build_command(tmp_path: Path) -> None:
    shutil.copytree(
        ROOT / "clients/javascript",
        tmp_path / "javascript",
        ignore=shutil.ignore_patterns("node_modules", "dist", "package-lock.json"),
    )
    folder = tmp_path / "javascript"
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    subprocess.run([sys.executable, "openapi.py", "openapi.json"], cwd=folder, env=environment, check=True, timeout=120)
    run("npm", "install", "--no-audit", "--no-fund", "--silent", folder=folder)
    run("npm", "run", "build", folder=folder)
    assert (folder / "dist/index.d.ts").exists()
