"""New routes and endpoints reach a running server, and the requests that run meanwhile."""

import concurrent.futures
import time
from pathlib import Path

import httpx

from tests.models.scripted_server import completion
from tests.models.scripted_thread import scripted_model
from tests.server import running_server, write_config

AGENTS = '  prompted: {class: "tests.agents.sample_agents:PromptedAgent"}'
MODELS = """
models:
  endpoints: {{one: {{base_url: "{url}", model: m, timeout_seconds: 20}}}}
  routes: {{quality: {{endpoints: [one]}}}}
"""


def test_a_refresh_reaches_the_models_while_requests_run(tmp_path: Path) -> None:
    with scripted_model(completion("old")) as old, scripted_model(completion("new")) as new:
        folder = tmp_path / "config"

        def configure(url: str) -> None:
            write_config(folder, AGENTS, more="refresh_seconds: 0.2\n", models=MODELS.format(url=url))

        configure(old.base_url)
        (folder / "prompts/ask_v1.txt").write_text("{{ question }}")
        with running_server(tmp_path / "home", folder) as server:

            def ask(n: int) -> str:
                body = {"agent": "prompted", "data": {"question": str(n)}}
                response = httpx.post(f"{server.url}/api/execute", json=body, timeout=30)
                assert response.status_code == 200, response.text
                return response.json()["result"]["text"]

            with concurrent.futures.ThreadPoolExecutor(4) as pool:
                assert set(pool.map(ask, range(8))) == {"old"}
                configure(new.base_url)
                for _ in range(200):
                    if set(pool.map(ask, range(4))) == {"new"}:
                        break
                    time.sleep(0.05)
                else:
                    raise AssertionError("the new model does not answer")
                assert set(pool.map(ask, range(8))) == {"new"}
