"""What a user prefers is said once, remembered across sessions, and theirs alone."""

import hashlib
from collections.abc import Iterator

import pytest
import yaml

from lakemesh.agents.analyst.preferences import stated
from tests.agents.analyst.demo_server import agents, ask, fill
from tests.models.scripted_server import ScriptedServer, completion
from tests.models.scripted_thread import scripted_model
from tests.server import Server, running_server, write_config

SECRETS = {user: f"{user}-0123456789abcdef0123456789abcdef" for user in ("ann", "bob")}
AUTH = "auth:\n  tokens:\n" + "".join(
    f"    - {{user: {user}, sha256: {hashlib.sha256(secret.encode()).hexdigest()}}}\n"
    for user, secret in SECRETS.items()
)


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Server, ScriptedServer]]:
    import asyncio

    from tests.agents.test_tool_agent import MODELS as SCRIPTED

    root = tmp_path_factory.mktemp("preferences")
    asyncio.run(fill(root / "home"))
    config = agents()
    config["analyst"]["options"]["preferences"] = True
    text = "".join(f"  {line}\n" for line in yaml.safe_dump(config, sort_keys=False).splitlines())
    with (
        scripted_model(completion("Done.")) as model,
        running_server(
            root / "home", write_config(root / "config", text, AUTH, models=SCRIPTED.format(url=model.base_url))
        ) as running,
    ):
        yield running, model


def told(server: Server, user: str, question: str, session: str | None = None) -> dict:
    response = ask(server, question, session, authorization=f"Bearer {SECRETS[user]}")
    assert response.status_code == 200, response.text
    return response.json()["result"]


def test_they_are_heeded_in_every_session_of_their_user_alone(server: tuple[Server, ScriptedServer]) -> None:
    running, model = server
    model.script = [completion("12345678901")]  # no number of the rows: what is left is stated by rule
    noted = told(running, "ann", "I prefer amounts in thousands, in German and dollars, by country.", "one")
    assert noted["status"] == "noted"
    assert "units thousands" in noted["text"]
    model.requests = []
    result = told(running, "ann", "How much revenue did we make last month?", "two")
    assert " thousand" in result["text"]
    assert "not converted to USD" in result["text"]
    assert result["answers"][0]["suggested_questions"] == ["How much revenue did we make last month by country"]
    assert "Write in German." in str(model.requests[-1])
    others = told(running, "bob", "How much revenue did we make last month?")
    assert " thousand" not in others["text"]
    assert others["answers"][0]["suggested_questions"] == []
    assert others["answers"][0]["rows"] == result["answers"][0]["rows"]
    told(running, "ann", "Always use full numbers")
    assert " thousand" not in told(running, "ann", "How much revenue did we make last month?")["text"]


@pytest.mark.parametrize(
    ("sentence", "found"),
    [
        ("Please always answer in French.", {"language": "French"}),
        ("From now on, euros and by product category please", {"currency": "EUR", "breakdown": "product category"}),
        ("I prefer millions", {"units": "millions"}),
        ("What is revenue in dollars by country?", {}),
        ("How many French customers always return?", {}),
        ("Remember the milk", {}),
    ],
)
def test_only_statements_are_preferences(sentence: str, found: dict) -> None:
    assert stated(sentence) == found
