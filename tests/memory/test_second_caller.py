"""Memory through HTTP: with a second user, a second process, and a damaged index."""

import hashlib
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.server import MODELS, Server, running_server

AGENTS = "agents: {diary: {class: 'tests.memory.diary:Diary'}}\n"
MEMORY = "memory: {flush_seconds: 0.05}\n"


def tokens(*users: str) -> str:
    listed = ", ".join(f"{{user: {user}, sha256: {hashlib.sha256(user.encode()).hexdigest()}}}" for user in users)
    return f"auth: {{tokens: [{listed}]}}\n"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    made = tmp_path / "config"
    made.mkdir()
    (made / "lakemesh.yaml").write_text(AGENTS + MODELS + MEMORY + tokens("alice", "bob"))
    return made


@pytest.fixture
def server(tmp_path: Path, folder: Path) -> Iterator[Server]:
    with running_server(tmp_path / "home", folder) as running:
        yield running


def call(server: Server, user: str, session: str | None = "s1", **data: Any) -> dict[str, Any]:
    body = {"agent": "diary", "data": data} | ({"session_id": session} if session else {})
    headers = {"authorization": f"Bearer {user}"}
    response = httpx.post(f"{server.url}/api/execute", json=body, headers=headers, timeout=30)
    assert response.status_code == 200, response.text
    result: dict[str, Any] = response.json()["result"]
    return result


def found(server: Server, user: str, count: int, session: str | None = "s1") -> list[str]:
    """What the user is answered, once there is as much of it."""
    deadline = time.monotonic() + 20
    while time.monotonic() < deadline:
        answer: list[str] = call(server, user, session, question="the salary and the PIN")["found"]
        if len(answer) >= count:
            return answer
        time.sleep(0.05)
    raise AssertionError(f"{user} did not find {count}")


def test_one_users_memory_is_not_anothers_whatever_session_they_name(server: Server) -> None:
    """The other user cannot forget it either."""
    secret = "My salary is 91000 euro and my PIN hint is Rex"
    memory_id = call(server, "alice", note=secret)["memory_id"]
    call(server, "bob", note="the salary of bob")
    assert found(server, "alice", 1) == [secret]
    for session in ("s1", None):
        assert found(server, "bob", 1, session) == ["the salary of bob"]
    assert call(server, "bob", forget=[memory_id]) == {"count": 0}
    assert found(server, "alice", 1) == [secret]
    assert call(server, "alice", forget=[memory_id]) == {"count": 1}
    assert call(server, "alice", question="salary")["found"] == []


def test_two_servers_on_one_home_see_each_others_memories_and_forgetting(
    server: Server, tmp_path: Path, folder: Path
) -> None:
    with running_server(tmp_path / "home", folder) as second:
        memory_id = call(server, "alice", note="the salary, told to the first")["memory_id"]
        assert found(second, "alice", 1) == ["the salary, told to the first"]
        assert call(second, "alice", forget=[memory_id]) == {"count": 1}
        assert call(server, "alice", question="the salary")["found"] == []
        call(second, "alice", note="the PIN, told to the second")
        assert found(server, "alice", 1) == ["the PIN, told to the second"]
    assert found(server, "alice", 1) == ["the PIN, told to the second"]


def test_a_damaged_index_is_told_and_mends_itself(tmp_path: Path, folder: Path) -> None:
    """Callers are told that memory is away, and never that the agent failed."""
    with running_server(tmp_path / "home", folder) as server:
        call(server, "alice", note="the salary")
        found(server, "alice", 1)
    files = list((tmp_path / "home/indexes/main/agents/memory_index").glob("*.parquet"))
    assert files
    for file in files:
        file.write_bytes(file.read_bytes()[:30])
    answers = []
    with running_server(tmp_path / "home", folder) as server:
        for _ in range(400):
            body = {"agent": "diary", "data": {"question": "the salary"}}
            response = httpx.post(f"{server.url}/api/execute", json=body, headers={"authorization": "Bearer alice"})
            answers.append((response.status_code, response.json().get("code")))
            if response.status_code == 200 and response.json()["result"]["found"] == ["the salary"]:
                break
            time.sleep(0.02)
        assert answers[-1] == (200, None)
    assert set(answers) <= {(200, None), (503, "workspace_unavailable")}
