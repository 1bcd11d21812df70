"""Flags that agents ask for, through the server, and flagd's rules as flagd's own testbed states them."""

import hashlib
import json
from pathlib import Path
from typing import Any

import anyio
import httpx
import pytest

from lakemesh.config.rollouts import FlagsConfig
from lakemesh.deadline import Deadline
from lakemesh.errors import ConfigurationInvalid
from lakemesh.rollout.flags import Flags
from lakemesh.schemas import Identity
from lakemesh.scope import ExecutionScope
from tests.server import running_server, write_config

AGENTS = "  a: {class: 'tests.rollout.agents:Versioned'}\n"
FLAGS = """
refresh_seconds: 0.2
flags:
  definitions:
    greeting:
      state: ENABLED
      variants: {short: hi, long: good day}
      defaultVariant: long
      targeting: {if: [{in: [analysts, {var: groups}]}, short, null]}
    arm:
      state: ENABLED
      variants: {candidate: new, other: old}
      defaultVariant: other
      targeting: {if: [{"==": [{var: arm}, candidate]}, candidate]}
rollouts: {plans: {next: {agent: a, share: 1.0, candidate: {options: {version: new}}}}}
"""


def test_an_agent_is_given_the_variant_of_its_caller_and_a_change_while_it_runs(tmp_path: Path) -> None:
    users = {"ann": ["analysts"], "bob": []}
    tokens = [
        {"user": user, "sha256": hashlib.sha256(user.encode()).hexdigest(), "groups": groups}
        for user, groups in users.items()
    ]
    more = f"auth: {{tokens: {json.dumps(tokens)}}}\n{FLAGS}"
    folder = write_config(tmp_path / "config", AGENTS, more=more)
    with running_server(tmp_path / "home", folder) as running, httpx.Client(base_url=running.url) as client:

        def flag(user: str, name: str) -> str:
            body = {"agent": "a", "data": {"flag": name}}
            answer = client.post("/api/execute", json=body, headers={"authorization": f"Bearer {user}"}).json()
            return str(answer["result"]["flag"])

        assert [flag(user, "greeting") for user in users] == ["hi", "good day"]
        assert flag("ann", "arm") == "new"
        assert flag("ann", "unknown") == "default"
        file = folder / "lakemesh.yaml"
        file.write_text(file.read_text().replace("good day", "good evening"))
        while flag("bob", "greeting") == "good day":
            pass
        assert flag("bob", "greeting") == "good evening"
        file.write_text(file.read_text().replace("state: ENABLED", "state: PERHAPS", 1))
        while not (degraded := client.get("/health/ready").json()["status"] != "ready"):
            pass
        assert degraded
        assert flag("bob", "greeting") == "good evening"


def resolved(definition: dict[str, Any], user: str, key: str = "flag", default: Any = "fallback") -> Any:
    async def resolve() -> Any:
        flags = Flags()
        await flags.start(FlagsConfig(definitions={key: definition}))
        scope = ExecutionScope(
            execution_id="e", agent_name="a", identity=Identity(user=user), deadline=Deadline.after(1)
        )
        return flags.client(scope).get_string_value(key, default)

    return anyio.run(resolve)


EDGE = {
    "state": "ENABLED",
    "variants": {"lower": "lower", "upper": "upper"},
    "defaultVariant": "lower",
    "targeting": {"fractional": [{"var": "targetingKey"}, ["lower", 50], ["upper", 50]]},
}


@pytest.mark.parametrize(
    ("key", "value"),
    [("ejOoVL", "lower"), ("bY9fO-", "lower"), ("SI7p-", "lower"), ("6LvT0", "upper"), ("ceQdGm", "upper")],
)
def test_fractions_are_flagds(key: str, value: str) -> None:
    """Keys whose hashes lie at the edges, and their variants, as flagd's testbed has them."""
    assert resolved(EDGE, key) == value


@pytest.mark.parametrize(("user", "value"), [("jon@company.com", "heads"), ("jane@company.com", "tails")])
def test_fractions_by_the_flags_own_name_are_flagds(user: str, value: str) -> None:
    shorthand = {
        "state": "ENABLED",
        "variants": {"heads": "heads", "tails": "tails", "draw": "draw"},
        "defaultVariant": "draw",
        "targeting": {"fractional": [["heads"], ["tails", 1]]},
    }
    assert resolved(shorthand, user, key="fractional-flag-shorthand") == value


def test_a_flag_that_is_off_gives_the_callers_default() -> None:
    assert resolved({**EDGE, "state": "DISABLED"}, "ann") == "fallback"


def test_what_is_no_flag_is_refused_by_name() -> None:
    with pytest.raises(ConfigurationInvalid, match=r"flags\.definitions\.flag"):
        resolved({"state": "ENABLED"}, "ann")


def test_another_provider_is_named_by_an_entry_point() -> None:
    async def start() -> None:
        await Flags().start(FlagsConfig(provider="nobody"))

    with pytest.raises(ConfigurationInvalid, match="there is no 'nobody'; there are: lakemesh"):
        anyio.run(start)
