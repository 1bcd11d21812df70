"""The scaffold's assistant with two users who choose the same session."""

import time
from pathlib import Path

import httpx
import pytest

from lakemesh.deploy.scaffold import render
from tests.agents.test_tool_agent import TOKENS
from tests.server import running_server, write_config

AGENTS = """
  assistant: {class: "private_shop_agents.assistant:Assistant"}
  remember: {class: search_memory}
"""


def test_what_one_user_said_is_not_told_to_another(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = write_config(
        tmp_path / "config", AGENTS, more=f"auth: {{tokens: [{TOKENS}]}}\nmemory: {{flush_seconds: 0.1}}\n"
    )
    render(tmp_path / "app", {"app_name": "private-shop"})
    monkeypatch.syspath_prepend(tmp_path / "app")
    prompt = tmp_path / "app/config/prompts/answer_v1.jinja"
    (folder / "prompts" / prompt.name).write_text(prompt.read_text())
    with running_server(tmp_path / "home", folder) as server:

        def ask(user: str, agent: str, **data: object) -> dict:
            body = {"agent": agent, "data": data, "session_id": "s1"}
            headers = {"authorization": f"Bearer {user}"}
            return httpx.post(f"{server.url}/api/execute", json=body, headers=headers, timeout=30).json()["result"]

        ask("ann", "assistant", question="My salary is 91000 euro and my PIN hint is Rex")
        for _ in range(100):
            if ask("ann", "remember", query="salary")["matches"]:
                break
            time.sleep(0.1)
        assert "Rex" in ask("ann", "assistant", question="What is the PIN hint?")["answer"]
        assert "Rex" not in ask("bob", "assistant", question="What is the salary and the PIN hint?")["answer"]
        assert "Rex" not in str(ask("bob", "remember", query="salary PIN Rex"))
