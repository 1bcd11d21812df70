"""`lakemesh policy`: questions, tests and comparisons of policies."""

from pathlib import Path

import pytest

from tests.cli.test_startup import run

BASE = "agents: {echo: {class: echo}}\n"
RULES = """
policies:
  rules:
    all-call: {call: ["*"]}
    analysts-read: {who: {groups: [analysts]}, read: [main.sales.*]}
    night-shift: {who: {users: [bob]}, read: ["main.**"], hours: {begin: "22:00", end: "06:00"}}
    prod-only: {effect: deny, read: [main.sales.secret], environments: [prod]}
  documents:
    - {"policyName": "plain", "allowedModels": ["claude"], "dataAccess": {"readOnlyPaths": ["/Volumes/main/public"]}}
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "config").mkdir()
    (tmp_path / "config/lakemesh.yaml").write_text(BASE)
    (tmp_path / "config/policies.yaml").write_text(RULES)
    (tmp_path / "config/lakemesh.prod.yaml").write_text("{}\n")
    return tmp_path


@pytest.mark.parametrize(
    ("question", "said"),
    [
        ("read main.sales.orders --user ann --group analysts", "allow: the rule 'analysts-read' says allow"),
        ("read main.sales.secret --user ann --group analysts", "allow: the rule 'analysts-read' says allow"),
        ("read main.sales.secret -e prod --group analysts", "deny: the rule 'prod-only' says deny"),
        ("read main.sales.orders --user eve", "deny: no rule allows it, and there are rules about 'read'"),
        ("read /Volumes/main/public/a --user eve", "allow: the rule 'plain.read' says allow"),
        ("write /Volumes/main/public/a --user eve", "deny: the rule 'plain.write' says deny"),
        ("model claude", "allow: the rule 'plain.models' says allow"),
        ("model gpt", "deny: no rule allows it, and there are rules about 'model'"),
        ("send example.com", "allow: no rule is about this kind of action"),
    ],
)
def test_a_question_is_answered_with_the_rule(folder: Path, question: str, said: str) -> None:
    answer = run(folder, "policy", "explain", *question.split())
    assert answer.stdout.strip() == said
    assert answer.returncode == said.startswith("deny")


def test_tests_say_what_came_out_otherwise(folder: Path) -> None:
    (folder / "policy_tests.yaml").write_text(
        "tests:\n"
        "  - {groups: [analysts], action: read, name: main.sales.orders, expect: allow, rule: analysts-read}\n"
        "  - {user: eve, action: read, name: main.sales.orders, expect: allow}\n"
    )
    answer = run(folder, "policy", "test")
    assert answer.returncode == 1
    assert "test 2: eve read main.sales.orders: deny" in answer.stderr
    assert "1 of 2 as expected" in answer.stdout


def test_a_change_is_told_as_who_gains_what(folder: Path) -> None:
    new = folder / "new"
    new.mkdir()
    (new / "lakemesh.yaml").write_text(BASE)
    (new / "policies.yaml").write_text(RULES.replace("main.sales.*", "main.hr.*"))
    told = run(folder, "policy", "diff", "config/lakemesh.yaml", "new/lakemesh.yaml").stdout
    assert "+ group analysts: read main.hr.any  deny -> allow (analysts-read)" in told
    assert "- group analysts: read main.sales.any  allow -> deny (analysts-read)" in told
    assert "- group analysts: read main.sales.secret  allow -> deny (analysts-read)" in told
    assert told.strip().endswith("3 changes")


def test_names_that_match_nothing_are_told(folder: Path) -> None:
    told = run(folder, "policy", "check")
    assert "no model is called 'claude'" in told.stderr
    assert "prod-only: read main.sales.secret  (not in dev)" in told.stdout
    assert "7 rules" in told.stdout
