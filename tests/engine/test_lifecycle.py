"""Agents start, change and close while requests run, and what one does wrong is its own loss."""

import json
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.engine.process import ServeProcess, execute, serve, wait_until
from tests.server import write_config

MORE = "refresh_seconds: 3600\n"


def diarist(name: str, diary: Path, **options: Any) -> str:
    given = json.dumps({"diary": str(diary), **options})
    return f"  {name}: {{class: tests.engine.agents:Diarist, start_timeout_seconds: 1.5, options: {given}}}\n"


def lines_of(diary: Path) -> list[str]:
    return diary.read_text().splitlines() if diary.exists() else []


ECHO = "  echo: {class: lakemesh.agents.echo:EchoAgent}\n"


def reload(server: ServeProcess, agents: str, more: str = MORE) -> None:
    write_config(server.folder, agents, more=more)
    server.reload()


def names(server: ServeProcess) -> set[str]:
    with server.client() as client:
        return {agent["name"] for agent in client.get("/api/agents").json()["agents"]}


@pytest.fixture
def diary(tmp_path: Path) -> Path:
    return tmp_path / "diary"


def test_a_replaced_agent_is_closed_when_its_last_run_ends(tmp_path: Path, diary: Path) -> None:
    with (
        serve(tmp_path, ECHO + diarist("d", diary), MORE) as server,
        server.client() as client,
        server.client() as other,
        ThreadPoolExecutor(1) as threads,
    ):
        running = threads.submit(execute, client, "d", {"seconds": 3})
        wait_until(lambda: "d a run" in lines_of(diary), "it runs")
        reload(server, ECHO + diarist("d", diary, word="b"))
        wait_until(lambda: execute(other, "d").json()["result"]["word"] == "b", "the new one serves")
        assert not running.done()
        assert "d a close" not in lines_of(diary)
        assert running.result().json()["result"] == {"word": "a"}
        wait_until(lambda: "d a close" in lines_of(diary), "the former is closed")
        assert [line for line in lines_of(diary) if line.startswith("d a")][-2:] == ["d a ran", "d a close"]
    assert lines_of(diary)[-1] == "d b close"


def test_a_removed_agent_is_gone_and_closed(tmp_path: Path, diary: Path) -> None:
    with serve(tmp_path, ECHO + diarist("d", diary), MORE) as server, server.client() as client:
        reload(server, ECHO)
        wait_until(lambda: names(server) == {"echo"}, "it is not listed")
        assert execute(client, "d").json()["code"] == "unknown_agent"
        wait_until(lambda: "d a close" in lines_of(diary), "it is closed")


def test_close_that_raises_or_hangs_holds_up_nothing(tmp_path: Path, diary: Path) -> None:
    agents = ECHO + diarist("d", diary, close="raise") + diarist("e", diary, close="hang")
    with serve(tmp_path, agents, MORE) as server, server.client() as client:
        reload(server, ECHO, MORE + "limits: {rate: {per_user_per_minute: 40}}\n")
        wait_until(lambda: names(server) == {"echo"}, "the change is whole")
        answers = [execute(client, "echo", {"message": "x"}).status_code for _ in range(45)]
        assert 429 in answers


def test_starts_that_fail_are_tried_again_without_a_refresh(tmp_path: Path, diary: Path) -> None:
    there = tmp_path / "there"
    with serve(tmp_path, ECHO + diarist("d", diary, start=str(there)), MORE) as server, server.client() as client:
        assert execute(client, "d").status_code == 503
        there.touch()
        wait_until(lambda: execute(client, "d").status_code == 200, "it started")


@pytest.mark.parametrize("start", ["hang", "exit", "raise"])
def test_a_start_that_fails_leaves_the_others_serving(tmp_path: Path, diary: Path, start: str) -> None:
    with serve(tmp_path, ECHO + diarist("d", diary, start=start), MORE) as server, server.client() as client:
        assert execute(client, "echo", {"message": "x"}).status_code == 200
        answer = execute(client, "d")
        assert (answer.status_code, answer.json()["code"]) == (503, "unavailable")
        assert "SECRET" not in answer.text + json.dumps(server.health())
        assert "d" in server.health()["degraded"]["agents"]
        if start == "raise":
            wait_until(lambda: any("SECRET" in line for line in server.lines), "the cause is in the log")


def test_an_agent_that_serves_is_not_replaced_by_one_that_does_not_start(tmp_path: Path, diary: Path) -> None:
    with serve(tmp_path, ECHO + diarist("d", diary), MORE) as server, server.client() as client:
        reload(server, ECHO + diarist("d", diary, word="b", start="raise") + ECHO.replace("echo", "echo2", 1))
        wait_until(lambda: "config" in server.health()["degraded"], "the change is refused")
        assert execute(client, "d").json()["result"] == {"word": "a"}
        assert names(server) == {"echo", "d"}


@pytest.fixture(scope="module")
def echoing(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServeProcess]:
    with serve(tmp_path_factory.mktemp("modules"), ECHO, MORE) as running:
        yield running


@pytest.mark.parametrize("module", ["exits", "raises"])
def test_a_module_that_cannot_be_imported_is_a_named_fault(echoing: ServeProcess, module: str) -> None:
    reload(echoing, ECHO + f"  bad: {{class: tests.engine.modules.{module}:Agent}}\n")

    def told() -> bool:
        return f"agents.bad.class: 'tests.engine.modules.{module}:Agent'" in json.dumps(echoing.health()["degraded"])

    wait_until(told, "the fault is named")
    with echoing.client() as client:
        assert execute(client, "echo", {"message": "x"}).status_code == 200


def test_limits_change_under_load(tmp_path: Path) -> None:
    agents = "  slow: {class: tests.engine.agents:Slow}\n"
    with serve(tmp_path, agents, MORE + "limits: {max_concurrency: 2}\n") as server, ThreadPoolExecutor(12) as threads:

        def submit(count: int, until: Path) -> None:
            runs.extend(threads.submit(execute, server.client(), "slow", {"until": str(until)}) for _ in range(count))
            wait_until(lambda: len(runs) - 2 == server.health()["parts"]["engine"]["queued"], "the others wait")

        runs: list[Future[httpx.Response]] = []
        submit(8, tmp_path / "first")
        submit(4, tmp_path / "second")
        reload(server, agents, MORE + "limits: {max_concurrency: 8}\n")
        wait_until(lambda: server.active() == 8, "those who waited run at once")
        reload(server, agents + ECHO, MORE + "limits: {max_concurrency: 1}\n")
        wait_until(lambda: "echo" in names(server), "the configuration is in force")
        (tmp_path / "first").touch()
        wait_until(lambda: server.active() == 1, "no more than the new limit")
        (tmp_path / "second").touch()
        assert {run.result().status_code for run in runs} == {200}


def test_a_turn_that_comes_as_the_wait_ends_leaks_no_slot(tmp_path: Path) -> None:
    agents = "  slow: {class: tests.engine.agents:Slow}\n" + ECHO
    with serve(tmp_path, agents, "limits: {max_concurrency: 1}\n") as server, ThreadPoolExecutor(8) as threads:

        def one(number: int) -> int:
            with server.client() as client:
                data, seconds = {"seconds": 0.01 * (number % 4)}, f"{0.01 + 0.001 * (number % 30):.3f}"
                return execute(client, "slow", data, x_request_timeout=seconds).status_code

        assert set(threads.map(one, range(300))) <= {200, 504}
        wait_until(lambda: server.active() == 0, "no slot is lost")
        with server.client() as client:
            assert execute(client, "echo", {"message": "x"}).status_code == 200


def test_threads_that_hang_are_bounded_and_hold_up_no_other_agent(server: ServeProcess, tmp_path: Path) -> None:
    """What nobody waits for any more keeps its place: more threads than processors there never are."""
    import os

    until = tmp_path / "until"
    with ThreadPoolExecutor(10) as threads, server.client() as client:
        late = list(
            threads.map(
                lambda _: execute(client, "hanging", {"until": str(until)}, x_request_timeout="0.5").json()["code"],
                range(20),
            )
        )
        assert set(late) == {"deadline_exceeded"}
        assert len(list(tmp_path.glob("until.*"))) <= (os.cpu_count() or 1)
        assert execute(client, "echo", {"message": "x"}).status_code == 200
        until.touch()
        wait_until(lambda: execute(client, "hanging", {"until": str(until)}).status_code == 200, "places are free")


def test_who_is_still_served_when_the_server_ends_gets_a_problem(tmp_path: Path) -> None:
    agents = "  slow: {class: tests.engine.agents:Slow}\n"
    with serve(tmp_path, agents, LAKEMESH_DRAIN_SECONDS="1") as server, ThreadPoolExecutor(1) as threads:
        with server.client() as client:
            running = threads.submit(execute, client, "slow", {"seconds": 20})
            wait_until(lambda: server.active() == 1, "it runs")
            server.process.terminate()
            answer = running.result()
        assert (answer.status_code, answer.json()["code"]) == (503, "shutting_down")


def test_a_session_keeps_its_arm(tmp_path: Path) -> None:
    agents = "  arm: {class: tests.engine.agents:SessionArm}\n  outer: {class: tests.engine.agents:Outer}\n"
    prompts = tmp_path / "config" / "prompts"
    prompts.mkdir(parents=True)
    (prompts / "ab_v1.txt").write_text("one")
    (prompts / "ab_v2.txt").write_text("two")
    more = "prompts: {selections: {ab: {split: {1: 50, 2: 50}}}}\n"
    with serve(tmp_path, agents, more) as server, server.client() as client:

        def arm(session: str) -> str:
            body = {"agent": "arm", "data": {}, "session_id": session}
            return client.post("/api/execute", json=body).json()["result"]["text"]

        arms = {session: {arm(session) for _ in range(3)} for session in map(str, range(20))}
        assert all(len(found) == 1 for found in arms.values()), "a session has one arm"
        assert {"one", "two"} == set().union(*arms.values())
