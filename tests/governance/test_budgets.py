"""Budgets, as callers meet them at the doors."""

import hashlib
import json
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.governance.doors import DOORS, by_rest, headers_of
from tests.server import running_server, write_config

AGENTS = "".join(
    f"  {name}: {{class: 'tests.governance.agents:{kind}', expose: [api, mcp, a2a], timeout_seconds: 20}}\n"
    for name, kind in {"doer": "Doer", "quota": "Doer", "middleman": "Middleman", "looper": "Looper"}.items()
)
TOKENS = {
    **{user: [] for user in ("ann", "bob", "eve", "tim", "max", "leo", "pia", "una", *(f"door-{d}" for d in DOORS))},
    "gus": ["team"], "gil": ["team"], "zoe": [],
}  # fmt: skip
MODELS = """
models:
  endpoints:
    offline: {serving_endpoint: offline}
    unpriced: {base_url: "http://127.0.0.1:9/v1", model: nobody-knows}
  routes:
    quality: {endpoints: [offline]}
    unpriced: {endpoints: [unpriced]}
    embeddings: {endpoints: [offline]}
"""
BUDGETS = """
budgets:
  limits:
    each-user: {per: user, period: day, users: [ann, "door-*"], calls: 5}
    each-run: {per: run, steps: 3, tool_calls: 4, calls: 100, run_seconds: 15}
    tokens-of-eve: {per: user, period: month, users: [eve], tokens: 1200}
    team: {per: group, period: hour, groups: [team], calls: 4}
    quota: {per: agent, period: day, agents: [quota], calls: 3}
    time-of-tim: {per: user, period: day, users: [tim], run_seconds: 2}
    money-of-max: {per: user, period: day, users: [max], usd: 1}
    session: {per: session, users: [leo], calls: 2}
    trial: {per: user, users: [una], calls: 1}
a2a: {enabled: true}
"""


@pytest.fixture(scope="module")
def client(tmp_path_factory: pytest.TempPathFactory) -> Iterator[httpx.Client]:
    root = tmp_path_factory.mktemp("budgets")
    tokens = [
        {"user": user, "sha256": hashlib.sha256(f"token-{user}".encode()).hexdigest(), "groups": groups}
        for user, groups in TOKENS.items()
    ]
    more = f"auth: {{tokens: {json.dumps(tokens)}}}\nserver: {{operators: [zoe]}}\n"
    folder = write_config(root / "config", AGENTS, more=more, models=MODELS)
    (folder / "budgets.yaml").write_text(BUDGETS.replace("a2a: {enabled: true}", ""))
    (folder / "policies.yaml").write_text("a2a: {enabled: true}")
    with running_server(root / "home", folder) as running, httpx.Client(base_url=running.url, timeout=30) as client:
        yield client


def execute(client: httpx.Client, user: str, agent: str = "doer", session: str | None = None, **data: Any) -> Any:
    body = {"agent": agent, "data": data or {"do": "say", "what": "x"}, "session_id": session}
    return client.post("/api/execute", json=body, headers=headers_of(f"token-{user}"))


def test_what_is_left_is_told_and_when_it_renews(client: httpx.Client) -> None:
    answers = [execute(client, "ann") for _ in range(6)]
    assert [answer.status_code for answer in answers] == [200] * 5 + [429]
    refused = answers[-1].json()
    assert (refused["code"], refused["budget"], refused["unit"]) == ("budget_exceeded", "each-user", "calls")
    assert (refused["limit"], refused["left"]) == (5, 0)
    renews_at = datetime.fromisoformat(refused["renews_at"])
    seconds = (renews_at - datetime.now(UTC)).total_seconds()
    assert 0 < seconds <= 86_400
    assert abs(int(answers[-1].headers["retry-after"]) - seconds) < 5
    assert execute(client, "bob").status_code == 200, "another's budget is another's"


def test_from_four_fifths_on_there_is_a_warning(client: httpx.Client) -> None:
    answers = [execute(client, "gus") for _ in range(4)]
    assert [answer.status_code for answer in answers] == [200] * 4
    warned = ["x-budget-warning" in answer.headers for answer in answers]
    assert warned == [False, False, False, True]
    told = answers[-1].json()["metadata"]["budgets"]
    assert [(one["budget"], one["unit"], one["left"]) for one in told] == [("team", "calls", 0)]
    assert "team" in answers[-1].headers["x-budget-warning"]
    assert execute(client, "gil").json()["code"] == "budget_exceeded", "the group's budget is one for its members"
    metrics = client.get("/metrics", headers=headers_of("token-zoe")).text
    assert 'lakemesh_budget_warnings_total{budget="team",unit="calls"} 1' in metrics
    assert 'lakemesh_budget_refusals_total{budget="team",unit="calls"} 1' in metrics


@pytest.mark.parametrize("door", DOORS)
def test_every_door_is_held_to_it(client: httpx.Client, door: str) -> None:
    """Five calls are answered, by whatever door, and the sixth is not."""
    user, ask = f"door-{door}", DOORS[door]
    codes = []
    for number in range(6):
        code, said = ask(client, f"token-{user}", "doer", {"do": "say", "what": str(number)})
        codes.append("budget_exceeded" if "budget_exceeded" in said else code)
    assert codes == ["answered"] * 5 + ["budget_exceeded"]


def test_a_loop_over_models_is_cut_off(client: httpx.Client) -> None:
    answer = execute(client, "bob", "looper", what="think").json()
    assert (answer["code"], answer["budget"], answer["unit"]) == ("budget_exceeded", "each-run", "steps")
    assert execute(client, "bob", "doer", do="think", what="quality").status_code == 200, "a run begins anew"


def test_a_loop_over_tools_is_cut_off(client: httpx.Client) -> None:
    answer = execute(client, "bob", "looper", what="call").json()
    assert (answer["code"], answer["unit"], answer["limit"]) == ("budget_exceeded", "tool_calls", 4)


def test_an_agents_quota_holds_directly_and_through_others(client: httpx.Client) -> None:
    say = {"do": "say", "what": "x"}
    for _ in range(2):
        assert by_rest(client, "token-bob", "quota", say)[0] == "answered"
    through = {"agent": "quota", "data": say}
    assert by_rest(client, "token-pia", "middleman", through)[0] == "answered"
    assert by_rest(client, "token-pia", "middleman", through)[0] == "budget_exceeded"
    assert by_rest(client, "token-pia", "quota", say)[0] == "budget_exceeded"
    assert by_rest(client, "token-pia", "doer", say)[0] == "answered"


def test_tokens_are_set_aside_before_and_settled_after(client: httpx.Client) -> None:
    """A call may take the 1,024 tokens of an answer at most; the stand-in's answers are a few."""
    used = 0
    for _ in range(200):
        answer = execute(client, "eve", do="think", what="quality").json()
        if answer.get("code") == "budget_exceeded":
            break
        metadata = answer["metadata"]
        used += metadata["input_tokens"] + metadata["output_tokens"]
        assert used <= 1_200
    assert answer["left"] == 1_200 - used
    assert answer["left"] < 1_100, "no more than one call's reservation is left"


def test_a_run_ends_when_its_time_is_used_up(client: httpx.Client) -> None:
    answer = execute(client, "tim", "looper", what="sleep").json()
    assert (answer["code"], answer["unit"]) == ("budget_exceeded", "run_seconds")
    answer = execute(client, "tim").json()
    assert (answer["code"], answer["budget"]) == ("budget_exceeded", "time-of-tim")
    assert answer["left"] < 1


def test_a_model_nobody_knows_the_price_of_is_refused_where_money_counts(client: httpx.Client) -> None:
    assert execute(client, "max", do="think", what="unpriced").json()["code"] == "price_unknown"
    assert execute(client, "bob", do="think", what="unpriced").json()["code"] == "model_unavailable"
    assert execute(client, "max", do="think", what="quality").status_code == 200, "the stand-in costs nothing"


def test_sessions_and_budgets_for_ever(client: httpx.Client) -> None:
    assert [execute(client, "leo", session="s").status_code for _ in range(3)] == [200, 200, 429]
    assert execute(client, "leo", session="t").status_code == 200
    assert execute(client, "leo").status_code == 200
    assert execute(client, "una").status_code == 200
    refused = execute(client, "una")
    assert refused.status_code == 429
    assert refused.json()["renews_at"] is None
    assert "retry-after" not in refused.headers


def test_the_health_page_says_whose_accounts_they_are(client: httpx.Client) -> None:
    ready = client.get("/health/ready", headers=headers_of("token-zoe")).json()
    assert ready["parts"]["budgets"]["kept_in"] == "this process", ready


def test_models_without_a_price_are_told_of(tmp_path: Path) -> None:
    from tests.cli.test_startup import run

    folder = write_config(tmp_path / "config", AGENTS, models=MODELS)
    (folder / "budgets.yaml").write_text("budgets: {limits: {a: {per: user, period: day, usd: 1}}}\n")
    told = run(tmp_path, "config", "check")
    assert told.returncode == 0
    assert "models.endpoints.unpriced: nobody knows its price, so budgets of money refuse it" in told.stderr
    (folder / "lakemesh.prices.yaml").write_text("models: {prices: {nobody-knows: {input: 1, output: 2}}}\n")
    assert "unpriced" not in run(tmp_path, "config", "check", "-e", "prices").stderr


def test_a_budget_is_taken_while_the_server_runs_and_a_bad_one_is_not(tmp_path: Path) -> None:
    folder = write_config(tmp_path / "config", "  echo: {class: echo}", "refresh_seconds: 0.05")
    body = {"agent": "echo", "data": {"message": "x"}}

    def until(status: int, server: Any) -> None:
        while httpx.post(f"{server.url}/api/execute", json=body, timeout=30).status_code != status:
            pass

    with running_server(tmp_path / "home", folder) as server:
        until(200, server)
        (folder / "budgets.yaml").write_text("budgets: {limits: {a: {per: all, period: month, calls: 3}}}\n")
        until(429, server)
        (folder / "budgets.yaml").write_text("budgets: {limits: {a: {per: nobody, calls: 1000}}}\n")
        while "budgets.yaml" not in httpx.get(f"{server.url}/health/ready").text:
            pass
        until(429, server)
        (folder / "budgets.yaml").write_text("budgets: {limits: {a: {per: all, period: month, calls: 1000000}}}\n")
        until(200, server)


def test_faults_are_named(tmp_path: Path) -> None:
    from tests.cli.test_startup import run

    folder = write_config(tmp_path / "config", AGENTS, models=MODELS)
    (folder / "budgets.yaml").write_text(
        "budgets:\n  timezone: Mars\n  limits:\n    a: {per: user}\n    b: {per: run, period: day, calls: 1}\n"
        "    c: {per: user, cals: 1}\n"
    )
    told = run(tmp_path, "config", "check").stderr
    assert "budgets.yaml: budgets.limits.a: Value error, a budget limits something" in told
    assert "budgets.yaml: budgets.limits.b: Value error, a run has no period" in told
    assert "budgets.limits.c.cals: unknown key (did you mean 'calls'?)" in told, told
    assert "there is no time zone 'Mars'" in told
