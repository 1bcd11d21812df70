"""A package that answers: as the server does, and inside Model Serving with the caller's own rights."""

import asyncio
import json
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from lakemesh.cli.model import read
from lakemesh.emulator.accounts import Accounts
from lakemesh.emulator.genie import ScriptedAnswer, Space
from lakemesh.errors import LakemeshError, Unauthenticated
from lakemesh.model_serving.package import write_package
from lakemesh.model_serving.served import Served
from tests.emulator import served as made
from tests.emulator.served import Emulator, serve
from tests.model_serving.shop import ANALYST, fill
from tests.server import running_server, write_config

QUESTION = {"input": [{"role": "user", "content": "pieces by place"}]}
MINE = """
  mine: {class: analyst, on_behalf_of_user: true, options: {domains: {rain: {description: rain, space_id: rain}}}}
"""


def packaged(folder: Path, agent: str) -> Path:
    """As `lakemesh model log` does it, with the environment's settings."""
    sources = asyncio.run(read(agent))
    write_package(folder, agent, sources.files, sources.access, prompts=sources.prompts)
    return folder


@pytest.fixture
def laptop(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    fill(tmp_path / "home")
    monkeypatch.setenv("LAKEMESH_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("LAKEMESH_CONFIG_FOLDER", str(write_config(tmp_path / "config", ANALYST)))
    return tmp_path


@pytest.fixture
def opened(laptop: Path) -> Iterator[Served]:
    model = Served(packaged(laptop / "package", "analyst"))
    model.open()
    yield model
    model.close()


def lasting(response: dict[str, Any]) -> Any:
    """What does not differ from one run to the next."""
    text = json.dumps({name: response[name] for name in ("object", "status", "model", "output", "custom_outputs")})
    return json.loads(text.replace(response["id"].removeprefix("resp_")[:32], "ID"))


def test_answers_are_those_of_the_server(laptop: Path, opened: Served) -> None:
    with running_server(laptop / "home", laptop / "config") as server:
        body = {**QUESTION, "model": "analyst"}
        served = httpx.post(f"{server.url}/api/responses", json=body, timeout=30).json()
        streamed = httpx.post(f"{server.url}/api/responses", json={**body, "stream": True}, timeout=30).text
    answer = opened.respond(QUESTION)
    assert answer["custom_outputs"]["answers"][0]["rows"] == [["Rome", 7], ["Oslo", 5]]
    assert lasting(answer) == lasting(served)
    events = list(opened.stream(QUESTION))
    names = [line.removeprefix("event: ") for line in streamed.splitlines() if line.startswith("event: ")]
    assert [event["type"] for event in events] == names
    assert lasting(events[-1]["response"]) == lasting(served)


def test_a_conversation_goes_on_and_threads_do_not_mix(opened: Served) -> None:
    def told(session: str, text: str) -> Any:
        request = {"input": [{"role": "user", "content": text}], "context": {"conversation_id": session}}
        return opened.respond(request)["custom_outputs"]["answers"]

    results: dict[str, Any] = {}

    def converse(place: str) -> None:
        told(place, "pieces by place")
        results[place] = told(place, f"only in {place}")[0]["rows"]

    threads = [threading.Thread(target=converse, args=(place,)) for place in ("Rome", "Oslo")]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert results == {"Rome": [["Rome", 7]], "Oslo": [["Oslo", 5]]}


def test_errors_are_designed_ones(opened: Served) -> None:
    with pytest.raises(LakemeshError) as raised:
        opened.respond({"input": [{"role": "user", "content": "x" * 9_000}]})
    assert raised.value.status == 422
    stream = opened.stream(QUESTION)
    next(stream)
    stream.close()  # who leaves ends the run
    assert opened.respond(QUESTION)["status"] == "completed"


@pytest.fixture
def serving(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[Emulator, Path]]:
    """What the platform sets up around a model."""
    tokens = {made.TOKEN: "admin@example.com", "token-ann": "ann@example.com", "token-bob": "bob@example.com"}
    spaces = [Space(space_id="rain", answers=[ScriptedAnswer(when="rain", query="SELECT current_user() AS who")])]
    accounts = Accounts(tokens=tokens, principals=made.ACCOUNTS.principals)
    monkeypatch.setenv("LAKEMESH_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("LAKEMESH_CONFIG_FOLDER", str(write_config(tmp_path / "config", MINE)))
    package = packaged(tmp_path / "package", "mine")
    monkeypatch.delenv("LAKEMESH_HOME")
    with serve(tmp_path / "emulator", accounts=accounts, spaces=spaces) as emulator:
        secret = {"OAUTH_TOKEN": [{"oauthTokenValue": made.TOKEN}]}
        (tmp_path / "model-dependencies-oauth-token").write_text(json.dumps(secret))
        monkeypatch.setenv("IS_IN_DB_MODEL_SERVING_ENV", "true")
        monkeypatch.setenv("SERVING_CREDENTIALS_DIR", str(tmp_path))
        monkeypatch.setenv("DATABRICKS_MODEL_SERVING_HOST_URL", emulator.url)
        monkeypatch.setenv("LAKEMESH_WAREHOUSE_ID", "emulator")
        yield emulator, package
    vars(threading.main_thread()).pop("invokers_token", None)


def test_in_model_serving_the_caller_is_whom_the_platform_names(serving: tuple[Emulator, Path]) -> None:
    emulator, package = serving
    model = Served(package)
    model.open()
    main = vars(threading.main_thread())  # where the platform leaves the caller's token
    request = {"input": [{"role": "user", "content": "rain?"}], "context": {"user_id": "boss", "conversation_id": "c"}}
    try:
        for _ in range(3):
            for user in ("ann", "bob"):
                main["invokers_token"] = f"token-{user}"
                answer = model.respond(request)
                assert answer["custom_outputs"]["answers"][0]["rows"] == [[f"{user}@example.com"]]
                assert f"token-{user}" not in json.dumps(answer)
        main["invokers_token"] = "nobody's"
        with pytest.raises(Unauthenticated):
            model.respond(request)
        main.pop("invokers_token")
        emulator.clear()
        with pytest.raises(Unauthenticated):
            model.respond(request)
        assert not [one for one in emulator.requests() if "/genie/" in one["path"]]
    finally:
        model.close()
    assert not [file for file in package.rglob("*") if file.is_file() and b"token-" in file.read_bytes()]
