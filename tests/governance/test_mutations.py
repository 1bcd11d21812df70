"""Every rule of the policy matters to the 300 questions: with any of them taken away, turned round or widened, the real
server answers some question otherwise. An unnoticed mutation fails."""

import copy
import hashlib
import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.governance.doors import headers_of
from tests.governance.questions import ADDRESS, AGENTS, MASKED, POLICIES, QUESTIONS, USERS
from tests.governance.test_policies import MODELS, fill
from tests.judge import JUDGE
from tests.server import Server, running_server, write_config

KINDS = ("call", "model", "read", "write", "send")
OPPOSITE = {"allow": "deny", "deny": "allow"}


def mutations() -> dict[str, dict[str, Any]]:
    """By what was done to which rule."""
    found = {}
    for name, rule in POLICIES["rules"].items():
        changed = {kind: ["**"] for kind in KINDS if kind in rule}
        found[f"{name} removed"] = without("rules", name)
        found[f"{name} turned round"] = altered("rules", name, effect=OPPOSITE[rule.get("effect", "allow")])
        if "who" in rule:
            found[f"{name} for everybody"] = altered("rules", name, who={})
        if rule.get("origins"):
            found[f"{name} from anywhere"] = altered("rules", name, origins=[])
        if changed and any(rule[kind] != ["**"] for kind in changed):
            found[f"{name} about everything"] = altered("rules", name, **changed)
    for name in POLICIES["content"]:
        found[f"{name} removed"] = without("content", name)
        found[f"{name} only tells"] = altered("content", name, action="tell")
    return found


def without(section: str, name: str) -> dict[str, Any]:
    policies = copy.deepcopy(POLICIES)
    del policies[section][name]
    return policies


def altered(section: str, name: str, **members: Any) -> dict[str, Any]:
    policies = copy.deepcopy(POLICIES)
    policies[section][name] |= members
    return policies


MUTATIONS = mutations()
TRIED = list(MUTATIONS) if JUDGE else list(MUTATIONS)[::12]


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Server, Path]]:
    """With `policies.yaml` beside the configuration, which the tests write anew."""
    root = tmp_path_factory.mktemp("mutations")
    tokens = [
        {"user": user, "sha256": hashlib.sha256(f"token-{user}".encode()).hexdigest(), "groups": groups}
        for user, groups in USERS.items()
    ]
    more = f"auth: {{tokens: {json.dumps(tokens)}}}\nserver: {{operators: [ann]}}\nrefresh_seconds: 0.1\n"
    folder = write_config(root / "config", AGENTS, more=more, models=MODELS)
    (folder / "policies.yaml").write_text(json.dumps({"policies": POLICIES}))
    with running_server(root / "home", folder) as running:
        fill(root / "home")
        yield running, folder


def version(client: httpx.Client) -> str:
    ready = client.get("/health/ready", headers=headers_of("token-ann")).json()
    return str(ready["parts"]["config"]["version"])


def enforce(client: httpx.Client, folder: Path, policies: dict[str, Any]) -> None:
    """Have the running server decide by these. Nothing but the policies changes."""
    before, content = version(client), json.dumps({"policies": policies})
    if (folder / "policies.yaml").read_text() == content:
        return
    (folder / "policies.yaml").write_text(content)
    until = time.monotonic() + 20
    while version(client) == before:
        assert time.monotonic() < until, "the policies were not taken"


def answers(client: httpx.Client) -> dict[tuple[str, str], str]:
    """What became of every question, by question and caller: all of a caller's in one batch."""
    found = {}
    for user in USERS:
        requests = [{"agent": agent, "data": data} for (agent, data), _ in QUESTIONS.values()]
        body = client.post(
            "/api/execute/batch", json={"requests": requests}, headers=headers_of(f"token-{user}")
        ).json()
        for question, result in zip(QUESTIONS, body["results"], strict=True):
            said = json.dumps(result)
            refused = "code" in result or "error" in result
            found[question, user] = "refused" if refused else "told" if ADDRESS in said else "answered"
    return found


def expected() -> dict[tuple[str, str], str]:
    return {
        (question, user): "answered" if user in allowed else "refused"
        for question, (_, allowed) in QUESTIONS.items()
        for user in USERS
    }


def wrong(client: httpx.Client) -> dict[tuple[str, str], str]:
    """The questions that are answered otherwise than the table says."""
    right = expected()
    return {key: one for key, one in answers(client).items() if one != right[key]}


def test_nothing_is_wrong_with_the_policy_as_it_is(served: tuple[Server, Path]) -> None:
    running, folder = served
    with httpx.Client(base_url=running.url, timeout=60) as client:
        enforce(client, folder, POLICIES)
        assert wrong(client) == {}
    assert set(QUESTIONS) >= MASKED


@pytest.mark.parametrize("mutation", TRIED)
def test_a_mutation_of_a_rule_is_noticed(served: tuple[Server, Path], mutation: str) -> None:
    running, folder = served
    with httpx.Client(base_url=running.url, timeout=60) as client:
        enforce(client, folder, MUTATIONS[mutation])
        try:
            assert wrong(client), f"no question of the table tells that {mutation}"
        finally:
            enforce(client, folder, POLICIES)
    if may_write(mutation):
        fill(folder.parent / "home")


def may_write(mutation: str) -> bool:
    """Whether it may have let something be changed that the questions are about."""
    rule = POLICIES["rules"].get(mutation.split()[0], {})
    return "write" in rule
