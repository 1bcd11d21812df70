"""The application as another program has it: started twice, mounted, not started."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from starlette.applications import Starlette
from starlette.routing import Mount
from starlette.testclient import TestClient

from lakemesh.app import App, create_app
from lakemesh.config.settings import Settings
from tests.server import write_config

AGENTS = "  echo: {class: lakemesh.agents.echo:EchoAgent}"
ECHO = {"agent": "echo", "data": {"message": "x"}}
LOCAL = "http://localhost"


def app_in(folder: Path) -> App:
    return create_app(Settings(home=folder / "home", config_folder=write_config(folder / "config", AGENTS)))


def test_the_same_app_serves_again_once_it_has_ended(tmp_path: Path) -> None:
    app = app_in(tmp_path)
    for _ in range(2):
        with TestClient(app, base_url=LOCAL) as client:
            assert client.post("/api/execute", json=ECHO).json()["result"] == {"message": "x"}


def test_the_app_serves_below_a_path_of_another(tmp_path: Path) -> None:
    mesh = app_in(tmp_path)

    @asynccontextmanager
    async def lifespan(_: Starlette) -> AsyncIterator[None]:
        async with mesh.lifespan():
            yield

    with TestClient(Starlette(routes=[Mount("/mesh", mesh)], lifespan=lifespan), base_url=LOCAL) as client:
        assert client.post("/mesh/api/execute", json=ECHO).json()["result"] == {"message": "x"}
        assert client.get("/mesh/api/agents").status_code == 200
        assert client.get("/mesh/health/live").status_code == 200


def test_an_app_that_was_not_started_says_so(tmp_path: Path) -> None:
    answer = TestClient(app_in(tmp_path), base_url=LOCAL).get("/api/agents")
    assert (answer.status_code, answer.json()["code"]) == (503, "unavailable")
    assert "lifespan" in answer.json()["detail"]


def test_a_method_that_a_path_does_not_take_is_405_and_names_those_it_does(tmp_path: Path) -> None:
    with TestClient(app_in(tmp_path), base_url=LOCAL) as client:
        for method, path, allowed in (("DELETE", "/api/agents", "GET"), ("GET", "/api/execute", "POST")):
            answer = client.request(method, path)
            assert (answer.status_code, answer.json()["status"], answer.json()["code"]) == (
                405, 405, "method_not_allowed",
            )  # fmt: skip
            assert allowed in answer.headers["allow"]
