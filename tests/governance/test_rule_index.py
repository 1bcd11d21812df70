"""A decision looks at few rules, and decides as if it had looked at all."""

from datetime import UTC, datetime

from hypothesis import given
from hypothesis import strategies as st

from lakemesh.config.policies import PoliciesConfig, PolicyRule
from lakemesh.governance.policies import STRENGTH, Action, Actor, Policies, Rule
from lakemesh.schemas import Identity

NAMES = [
    "main.sales.orders",
    "main.sales.secret",
    "MAIN.hr.people",
    "main.größe.x",
    "/Volumes/main/a.txt",
    "ſales",
    "s",
]
PATTERNS = [
    *NAMES,
    "main.*",
    "main.sales.*",
    "main.**",
    "**",
    "*.hr.*",
    "/Volumes/main/**",
    "Größe*",
    "SALES",
    "S",
    "s*",
]
USERS, GROUPS, AGENTS = ["ann", "Bob", "ann@x.org"], ["a", "B", "c-1"], ["clerk", "doer", "jobs__run"]


def some(of: list[str]) -> st.SearchStrategy[list[str]]:
    return st.lists(st.sampled_from(of), max_size=2)


rules = st.fixed_dictionaries(
    {
        "effect": st.sampled_from(["allow", "deny", "approve"]),
        "read": st.lists(st.sampled_from(PATTERNS), min_size=1, max_size=3),
        "who": st.fixed_dictionaries(
            {
                "users": some([*USERS, "an*", "**"]),
                "groups": some([*GROUPS, "b*"]),
                "service_principals": some(USERS),
                "agents": some([*AGENTS, "jobs__*"]),
            }
        ),
    }
)
callers = st.builds(
    Identity,
    user=st.sampled_from([*USERS, "ANN"]),
    kind=st.sampled_from(["user", "service"]),
    email=st.sampled_from([None, "ann@x.org"]),
    groups=st.frozensets(st.sampled_from([*GROUPS, "b"]), max_size=2),
    groups_unknown=st.booleans(),
)


@given(
    st.lists(rules, min_size=1, max_size=12),
    callers,
    st.lists(st.sampled_from(AGENTS), max_size=2),
    st.lists(st.sampled_from(NAMES), min_size=1, max_size=2),
)
def test_decides_as_if_every_rule_was_looked_at(
    given_rules: list[object], identity: Identity, agents: list[str], names: list[str]
) -> None:
    config = PoliciesConfig.model_validate({"rules": {f"r{n}": rule for n, rule in enumerate(given_rules)}})
    actor, action = Actor(identity, "api", tuple(agents)), Action("read", tuple(names))
    ordered = sorted(config.all_rules().items(), key=lambda item: -STRENGTH[item[1].effect])
    matches = [(name, rule, Rule(name, rule).match(actor, action, now)) for name, rule in ordered]
    # The first that is sure, or the first that might be meant and is no permission.
    first = next((name for name, rule, match in matches if match == "yes" or is_caution(rule, match)), None)
    sure = {name for name, _, match in matches if match == "yes"}
    decision = Policies(config).decide(actor, action)
    assert decision.rule == (first if first in sure else None)
    if first is not None and first not in sure:
        assert decision.unknown_groups


def is_caution(rule: PolicyRule, match: str) -> bool:
    return match == "unknown" and rule.effect != "allow"


def now() -> datetime:
    return datetime.now(UTC)
