"""What one does on the first day: rows of one's own, a token, a folder that is being worked on."""

import hashlib
import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import httpx
import pytest

from tests.cli.test_startup import run
from tests.commands import REPOSITORY
from tests.server import write_config
from tests.terminal import typed

with socket.create_server(("127.0.0.1", 0)) as free:
    PORT = free.getsockname()[1]
AGENT = """
def greet(name: str) -> str:
    "Greets somebody."
    return "{word} " + name
"""


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("orders.csv", "id,amount,day\n1,2.5,2026-01-01\n2,3.5,2026-01-02\n"),
        ("orders.jsonl", '{"id": 1, "amount": 2.5}\n{"id": 2, "amount": 3.5}\n'),
    ],
)
def test_a_file_becomes_a_table(tmp_path: Path, name: str, content: str) -> None:
    (tmp_path / name).write_text(content)
    loaded = run(tmp_path, "load", name, "main.sales.orders")
    assert loaded.stdout.startswith("2 rows added to main.sales.orders (id BIGINT, amount DOUBLE")
    assert run(tmp_path, "load", name, "main.sales.orders").returncode == 0
    found = run(tmp_path, "sql", "SELECT count(*) AS n, sum(amount) AS s FROM main.sales.orders", "--format", "json")
    assert json.loads(found.stdout) == [{"n": 4, "s": 12.0}]


@pytest.mark.parametrize(
    ("name", "said"), [("orders.xlsx", "its ending is none of"), ("missing.csv", "cannot be read"), ("a.csv", "read")]
)
def test_what_cannot_be_loaded_is_one_sentence(tmp_path: Path, name: str, said: str) -> None:
    (tmp_path / "a.csv").write_text('a,b\n1\n2,3,4\n"')
    answer = run(tmp_path, "load", name, "main.sales.orders")
    assert answer.returncode == 1
    assert said in answer.stderr
    assert "Traceback" not in answer.stderr


def test_a_token_is_shown_once_and_kept_as_its_digest(tmp_path: Path) -> None:
    made = run(tmp_path, "tokens", "create", "ann", "--group", "analysts")
    digest = hashlib.sha256(made.stdout.strip().encode()).hexdigest()
    assert f"{{user: ann, sha256: {digest}, groups: [analysts]}}" in made.stderr


def test_a_changed_file_is_in_force_without_a_hand(tmp_path: Path) -> None:
    folder = tmp_path / "mine"
    write_config(folder / "config", "  greet: {function: 'mine:greet'}")
    (folder / "mine.py").write_text(AGENT.format(word="Hello"))
    command = [sys.executable, "-m", "lakemesh.cli", "dev", "--port", str(PORT), "--no-browser"]
    environment = {**os.environ, "PYTHONPATH": str(REPOSITORY), "LAKEMESH_HOME": str(tmp_path / "home")}
    process = subprocess.Popen(command, cwd=folder, env=environment, stderr=subprocess.PIPE, text=True)
    try:
        until(lambda: greeting("greet") == "Hello ann")
        (folder / "mine.py").write_text(AGENT.format(word="Hi"))
        until(lambda: greeting("greet") == "Hi ann")
        write_config(folder / "config", "  hail: {function: 'mine:greet'}")
        until(lambda: greeting("hail") == "Hi ann")
        (folder / "mine.py").write_text("def greet(:")
        until(lambda: greeting("hail") is None)
        (folder / "mine.py").write_text(AGENT.format(word="Again"))
        until(lambda: greeting("hail") == "Again ann")
    finally:
        process.send_signal(signal.SIGINT)
        _, said = process.communicate(timeout=60)
    assert re.search(r"mine\.py changed: starting anew", said)
    assert greeting("hail") is None


def greeting(agent: str) -> str | None:
    """None while nothing serves."""
    try:
        body = {"agent": agent, "data": {"name": "ann"}}
        answer = httpx.post(f"http://127.0.0.1:{PORT}/api/execute", json=body, timeout=10)
    except httpx.HTTPError:
        return None
    return answer.json().get("result") if answer.status_code == 200 else None


def until(condition: Callable[[], bool]) -> None:
    end = time.monotonic() + 90
    while not condition():
        assert time.monotonic() < end, "it did not happen"
        time.sleep(0.1)


def test_without_a_folder_one_is_offered(tmp_path: Path) -> None:
    said = typed(tmp_path, [], ["", "Shop 1", "shop", "2"])
    assert "There is no app in this folder. Make one now? [Y/n]" in said
    assert "is not a name for an app" in said
    assert "2  tools" in said
    assert "lakemesh dev" in said
    assert (tmp_path / "shop/shop_agents/tools.py").is_file()
    assert "Make one now" not in typed(tmp_path / "shop", [], [])
    piped = run(tmp_path, *[])
    assert (piped.returncode, "Make one now" in piped.stdout, "init" in piped.stdout) == (0, False, True)
