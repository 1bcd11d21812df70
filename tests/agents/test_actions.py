"""Actions on a real server over the embedded workspace: jobs by agents, once per run, cancelled with it, bounded."""

import contextlib
import time
import uuid
from collections.abc import Callable, Iterator
from hashlib import sha256
from pathlib import Path
from typing import Any

import httpx
import psycopg
import pytest

from tests.judge import judged
from tests.models.scripted_server import ScriptedServer
from tests.models.scripted_thread import calls, says, scripted_model, told
from tests.server import Server, running_server, write_config
from tests.server_process import ServerProcess

BUNDLE = """
bundle: {name: shop}
variables: {warehouse_id: {description: one}}
targets: {dev: {default: true}}
resources:
  jobs:
    totals:
      name: refresh totals
      parameters: [{name: day, default: never}]
      tasks:
        - task_key: totals
          sql_task: {warehouse_id: "${var.warehouse_id}", file: {path: ./jobs/totals.sql}, parameters: {}}
    guarded:
      name: guarded totals
      parameters: [{name: place, default: ""}]
      tasks:
        - task_key: slow
          spark_python_task: {python_file: ./jobs/slow.py, parameters: ["{{job.parameters.place}}"]}
    slow:
      name: slow
      max_concurrent_runs: 9
      parameters: [{name: place, default: ""}]
      tasks:
        - task_key: slow
          spark_python_task: {python_file: ./jobs/slow.py, parameters: ["{{job.parameters.place}}"]}
"""
TOTALS = """
CREATE OR REPLACE TABLE main.shop.totals AS SELECT :day AS day;
SELECT 'ann@example.com' AS told, day FROM main.shop.totals
"""
SLOW = """
import sys, time, pathlib
place = pathlib.Path(sys.argv[1])
with place.open("a") as file: file.write("begun\\n")
print("token=dapi0123456789abcdef0123456789", flush=True)
while not place.with_suffix(".done").exists(): time.sleep(0.05)
"""
AGENTS = """
  refresh_totals:
    class: run_job
    description: Refreshes the totals of one day.
    options:
      job: refresh totals
      parameters: {day: {type: string, format: date, description: which day}}
  slow:
    class: run_job
    timeout_seconds: 60
    options: {job: slow, wait_seconds: 40, concurrent_per_user: 1, parameters: {place: {type: string}}}
  guarded:
    class: run_job
    timeout_seconds: 60
    options: {job: guarded totals, wait_seconds: 40, parameters: {place: {type: string}}}
  clerk: {class: tool_agent, options: {instructions: You refresh., tools: [refresh_totals]}}
  query: {class: query, options: {schemas: [main.shop, main.sandbox]}}
  write: {class: write_sql, options: {sandboxes: [main.sandbox], schemas: [main.shop]}}
  promote:
    class: promote
    options:
      sandboxes: [main.sandbox]
      targets: {main.shop.prices: {check: "SELECT * FROM source WHERE price < 0 OR price IS NULL", min_rows: 2}}
"""
MORE = """
auth:
  tokens:
""" + "".join(
    f"    - {{user: {user}, sha256: {sha256(user.encode()).hexdigest()}}}\n" for user in ("ann", "bob", "eve")
)
POLICIES = """
invocations: {lease_seconds: 2, retry_seconds: 0.1, park_seconds: 0.5}
policies:
  rules:
    tools: {call: [slow, refresh_totals, clerk, query, write, promote, guarded]}
    jobs: {who: {users: [ann, bob]}, call: ["job:*"]}
    careful: {effect: approve, call: ["job:guarded *"], approvers: {users: [bob]}}
"""
MODELS = """
models:
  endpoints:
    scripted: {{base_url: "{url}", model: scripted, timeout_seconds: 20}}
    offline: {{serving_endpoint: offline}}
  routes:
    quality: {{endpoints: [scripted], attempts: 1}}
    embeddings: {{endpoints: [offline]}}
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("shop")
    (place / "jobs").mkdir()
    (place / "databricks.yml").write_text(BUNDLE)
    (place / "jobs/totals.sql").write_text(TOTALS)
    (place / "jobs/slow.py").write_text(SLOW)
    return place


@pytest.fixture(scope="module")
def model() -> Iterator[ScriptedServer]:
    with scripted_model(says("unscripted")) as model:
        yield model


@pytest.fixture(scope="module")
def server(folder: Path, model: ScriptedServer, postgres: str) -> Iterator[Server]:
    config = write_config(folder / "config", AGENTS, MORE + POLICIES, models=MODELS.format(url=model.base_url))
    with contextlib.chdir(folder), running_server(folder / "home", config, database=postgres) as running:
        yield running


def client_of(url: str, user: str = "ann") -> httpx.Client:
    return httpx.Client(base_url=url, headers={"authorization": f"Bearer {user}"}, timeout=60)


@pytest.fixture
def ann(server: Server) -> Iterator[httpx.Client]:
    with client_of(server.url) as client:
        yield client


def execute(client: httpx.Client, agent: str, **data: Any) -> httpx.Response:
    return client.post("/api/execute", json={"agent": agent, "data": data})


def until(found: Callable[[], Any]) -> Any:
    end = time.monotonic() + 30
    while not (value := found()):
        assert time.monotonic() < end
        time.sleep(0.05)
    return value


def test_an_agent_runs_a_job_through_the_rest_door(ann: httpx.Client, model: ScriptedServer) -> None:
    model.script = [calls(("refresh_totals", {"day": "2026-05-06"})), says("Done.")]
    model.requests = []
    answer = execute(ann, "clerk", message="refresh the totals of 6 May")
    assert answer.json()["result"] == {"text": "Done. "}, answer.text
    [shown] = told(model.requests[-1])
    assert '"status":"succeeded"' in shown.replace(" ", "")
    assert "ann@example.com" not in shown
    rows = execute(ann, "query", statement="SELECT day FROM main.shop.totals").json()["result"]["rows"]
    assert rows == [["2026-05-06"]]


def test_parameters_are_held_to_their_schema(ann: httpx.Client) -> None:
    refused = execute(ann, "refresh_totals", day="tomorrow")
    assert (refused.status_code, refused.json()["errors"][0]["path"]) == (422, "data.day"), refused.text
    tool = next(one for one in ann.get("/api/agents").json()["agents"] if one["name"] == "refresh_totals")
    assert tool["input_schema"]["properties"]["day"]["description"] == "which day"


def test_what_a_policy_does_not_allow_is_not_run(server: Server) -> None:
    with client_of(server.url, "eve") as eve:
        refused = execute(eve, "refresh_totals", day="2026-05-06")
    assert (refused.status_code, refused.json()["code"]) == (403, "policy_denied")
    assert "job:refresh totals" in refused.json()["detail"]


def test_a_job_that_a_person_has_to_approve_runs_once_they_did(
    server: Server, ann: httpx.Client, tmp_path: Path
) -> None:
    place = tmp_path / "place"
    place.with_suffix(".done").touch()
    refused = execute(ann, "guarded", place=str(place))
    assert (refused.status_code, refused.json()["code"]) == (403, "approval_required"), refused.text
    body = {"id": str(uuid.uuid4()), "agent_name": "guarded", "input": {"place": str(place)}, "background": True}
    assert ann.post("/api/invocations", json=body).status_code == 202
    with client_of(server.url, "bob") as bob:
        [shown] = until(lambda: bob.get("/api/approvals", params={"status": "pending"}).json()["approvals"])
        assert "job:guarded totals" in shown["action"]
        assert not place.exists()
        assert bob.post(f"/api/approvals/{shown['id']}/decision", json={"decision": "approve"}).status_code == 200
    until(lambda: ann.get(f"/api/invocations/{body['id']}").json()["status"] == "completed")
    assert place.read_text() == "begun\n"


def test_what_goes_on_is_handed_back_and_asked_for_again(ann: httpx.Client, tmp_path: Path) -> None:
    place = tmp_path / "place"
    asked = {"place": str(place), "run_token": "mine", "wait_seconds": 0.2}
    first = execute(ann, "slow", **asked).json()["result"]
    assert first["status"] == "running"
    until(place.exists)
    busy = execute(ann, "slow", place=str(tmp_path / "other"))
    assert (busy.status_code, busy.json()["code"]) == (429, "rate_limited"), busy.text
    place.with_suffix(".done").touch()
    second = execute(ann, "slow", **{**asked, "wait_seconds": 30}).json()["result"]
    assert (second["status"], second["run_id"]) == ("succeeded", first["run_id"])
    assert place.read_text() == "begun\n"
    assert "dapi0123" not in second["tasks"][0]["log"]


def test_a_bound_of_one_user_is_not_anothers(server: Server, ann: httpx.Client, tmp_path: Path) -> None:
    mine, theirs = tmp_path / "mine", tmp_path / "theirs"
    assert execute(ann, "slow", place=str(mine), wait_seconds=0).json()["result"]["status"] == "running"
    theirs.with_suffix(".done").touch()
    with client_of(server.url, "bob") as bob:
        assert execute(bob, "slow", place=str(theirs)).json()["result"]["status"] == "succeeded"
    mine.with_suffix(".done").touch()
    until(lambda: execute(ann, "slow", place=str(mine), wait_seconds=5).status_code == 200)


def rows(client: httpx.Client, statement: str) -> list:
    answer = execute(client, "query", statement=statement)
    assert answer.status_code == 200, answer.text
    return answer.json()["result"]["rows"]


def write(client: httpx.Client, select: str) -> int:
    statement = f"CREATE OR REPLACE TABLE main.sandbox.prices AS {select}"
    answer = execute(client, "write", statement=statement)
    assert answer.status_code == 200, answer.text
    assert answer.json()["result"]["table"] == "main.sandbox.prices"
    return answer.json()["result"]["version"]


def test_a_sandbox_is_written_and_promoted_once_it_is_sound(ann: httpx.Client) -> None:
    """In one commit of the target; what is wrong is shown and nothing changes."""
    promotion = {"source": "main.sandbox.prices", "target": "main.shop.prices"}
    assert execute(ann, "promote", **promotion).status_code == 404
    write(ann, "SELECT 'a' AS item, 1 AS price UNION ALL SELECT 'b', 2")
    first = execute(ann, "promote", **promotion).json()["result"]
    assert (first["promoted"], first["rows"], first["former_version"]) == (True, 2, None), first
    write(ann, "SELECT 'a' AS item, -1 AS price UNION ALL SELECT 'write to ann@example.com', NULL")
    faulty = execute(ann, "promote", **promotion).json()["result"]
    assert (faulty["promoted"], faulty["reason"]) == (False, "The check found faults.")
    assert sorted(str(one["item"]) for one in faulty["faults"]) == ["a", "write to [e-mail]"]
    write(ann, "SELECT 'a' AS item, 1 AS price")
    assert "fewest" in execute(ann, "promote", **promotion).json()["result"]["reason"]
    assert rows(ann, "SELECT item, price FROM main.shop.prices ORDER BY item") == [["a", 1], ["b", 2]]
    write(ann, "SELECT 4 AS price, 'c' AS item UNION ALL SELECT 5, 'd'")
    last = execute(ann, "promote", **promotion).json()["result"]
    assert (last["promoted"], last["former_version"]) == (True, 0)
    assert rows(ann, "SELECT item, price FROM main.shop.prices ORDER BY item") == [["c", 4], ["d", 5]]
    assert rows(ann, "SELECT item FROM main.shop.prices VERSION AS OF 0 ORDER BY item") == [["a"], ["b"]]


def test_nothing_else_is_written(ann: httpx.Client) -> None:
    for statement in ("DROP TABLE IF EXISTS main.shop.prices", "INSERT INTO main.sandbox.prices SELECT 1, 'x'"):
        refused = execute(ann, "write", statement=statement)
        assert (refused.status_code, refused.json()["code"]) == (403, "permission_denied"), refused.text
    for source, target in (("main.shop.totals", "main.shop.prices"), ("main.sandbox.prices", "main.shop.totals")):
        assert execute(ann, "promote", source=source, target=target).status_code == 403


def test_a_cancelled_run_cancels_the_job(ann: httpx.Client, tmp_path: Path) -> None:
    place = tmp_path / "place"
    body = {"id": str(uuid.uuid4()), "agent_name": "slow", "input": {"place": str(place)}, "background": True}
    assert ann.post("/api/invocations", json=body).status_code == 202
    until(place.exists)
    ann.post(f"/api/invocations/{body['id']}/cancel").raise_for_status()
    until(lambda: ann.get(f"/api/invocations/{body['id']}").json()["status"] == "cancelled")
    until(lambda: execute(ann, "slow", place=str(place), run_token="another", wait_seconds=0).status_code == 200)
    place.with_suffix(".done").touch()
    until(lambda: place.read_text() == "begun\nbegun\n")


@contextlib.contextmanager
def interrupted(how: str, folder: Path, config: Path, database: str) -> Iterator[Callable[[], str]]:
    """A server, by its URL; asked again it is stopped, or killed, and another goes on in its place."""
    with contextlib.ExitStack() as stack:
        stack.enter_context(contextlib.chdir(folder))
        servers: list[Any] = []

        def start() -> str:
            if how == "kill":
                if servers:
                    servers[-1].kill()
                servers.append(ServerProcess(folder / "again", config, {"LAKEMESH_DATABASE": database}))
                return servers[-1].url
            if servers:
                servers[-1].close()
            servers.append(stack.enter_context(contextlib.ExitStack()))
            return servers[-1].enter_context(running_server(folder / "again", config, database=database)).url

        yield start
        if how == "kill":
            servers[-1].stop()


@pytest.mark.parametrize("how", ["stop", pytest.param("kill", marks=judged)])
def test_a_run_that_goes_on_elsewhere_finds_its_job(
    how: str, folder: Path, postgres: str, model: ScriptedServer, tmp_path: Path
) -> None:
    """Neither is it cancelled nor run twice."""
    name = f"again_{how}"
    with psycopg.connect(postgres, autocommit=True) as connection:
        connection.execute(f"CREATE DATABASE {name}")  # or a worker of the other server's would take over
    config = write_config(tmp_path / "config", AGENTS, MORE + POLICIES, models=MODELS.format(url=model.base_url))
    place = tmp_path / "place"
    body = {"id": str(uuid.uuid4()), "agent_name": "slow", "input": {"place": str(place)}, "background": True}
    with interrupted(how, folder, config, postgres.replace("/postgres?", f"/{name}?")) as start:
        with client_of(start()) as ann:
            assert ann.post("/api/invocations", json=body).status_code == 202
            until(place.exists)
        with client_of(start()) as ann:
            place.with_suffix(".done").touch()

            def ended() -> Any:
                found = ann.get(f"/api/invocations/{body['id']}").json()
                return found["status"] not in ("running", "queued") and found

            found = until(ended)
            assert (found["status"], found["output"]["status"]) == ("completed", "succeeded"), found
    assert place.read_text() == "begun\n"
