from pathlib import Path

import pytest

from lakemesh.client import ServerError
from lakemesh.testing import ScriptedModel, serve

CONFIG = Path(__file__).parent / "config"


def test_it_answers_at_every_door() -> None:
    with serve(CONFIG, model=ScriptedModel("A lake with a house.")) as server:
        answer = server.execute("oracle", {"text": "What is a lakehouse?"})
        assert answer.result == {"text": "A lake with a house."}
        assert server.execution(answer).model_calls[0].route == "quality"
        card = server.http.get("/.well-known/agent-card.json").json()
        assert [skill["id"] for skill in card["skills"]] == ["oracle"]
        with pytest.raises(ServerError, match="text: Field required"):
            server.execute("oracle", {})


def test_offline_it_says_so() -> None:
    with serve(CONFIG) as server:
        assert server.execute("oracle", {"text": "hello"}).result == {"text": "[offline model] hello"}
