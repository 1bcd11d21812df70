"""Policies before they are in force: asked single questions, tested, and compared with those before them."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

from pydantic import Field

from lakemesh.config.base import Section
from lakemesh.config.policies import ActionKind, Effect, PoliciesConfig
from lakemesh.governance.guard import action_of
from lakemesh.governance.policies import FREE, Actor, Decision, Policies
from lakemesh.schemas import Identity


class Question(Section):
    """May this caller, through this door and by way of these agents (the acting one first), do this?"""

    user: str = "anybody"
    groups: list[str] = []
    service: bool = False
    door: str = "api"
    agents: list[str] = []
    origins: list[str] = []
    action: ActionKind
    name: str = Field(min_length=1)

    def actor(self) -> Actor:
        kind: Literal["service", "user"] = "service" if self.service else "user"
        identity = Identity(user=self.user, kind=kind, groups=frozenset(self.groups))
        return Actor(identity, self.door, tuple(self.agents), frozenset(self.origins))


class PolicyTest(Question):
    """A question with its answer; with `rule`, also which rule has to decide."""

    expect: Effect
    rule: str | None = None


class PolicyTests(Section):
    """A file of them."""

    tests: list[PolicyTest] = Field(min_length=1)


def answer(policies: Policies, question: Question) -> Decision:
    """Raises `InvalidRequest` for the name of a table or a path that has no one form."""
    return policies.decide(question.actor(), action_of(question.action, (question.name,)))


def failures(policies: Policies, tests: Sequence[PolicyTest]) -> list[str]:
    """What comes out otherwise than expected, in words."""
    found = []
    for place, test in enumerate(tests, 1):
        decision = answer(policies, test)
        by = decision.rule if test.rule is not None else None
        if (decision.effect, by) != (test.expect, test.rule):
            expected = test.expect + (f" by {test.rule}" if test.rule else "")
            asked = f"test {place}: {test.user} {test.action} {test.name}"
            found.append(f"{asked}: {decision.effect} ({decision.reason}), not {expected}")
    return found


@dataclass(frozen=True, slots=True)
class Change:
    """One thing that somebody may do now and could not before, or the other way round."""

    who: str
    action: ActionKind
    name: str
    before: Decision
    after: Decision

    def __str__(self) -> str:
        by = self.after.rule or self.before.rule or "no rule"
        sign = {"allow": "+", "approve": "?", "deny": "-"}[self.after.effect]
        return f"{sign} {self.who}: {self.action} {self.name}  {self.before.effect} -> {self.after.effect} ({by})"


def changes(before: PoliciesConfig, after: PoliciesConfig, *, environment: str) -> list[Change]:
    """Who gains or loses what, for everybody and everything that either names. A pattern stands for itself with `any`
    in the place of its stars."""
    old, new = Policies(before, environment=environment), Policies(after, environment=environment)
    found = []
    for who, actor in actors(before, after):
        for kind, name in resources(before, after):
            action = action_of(kind, (name,))
            first, second = old.decide(actor, action), new.decide(actor, action)
            if first.effect != second.effect:
                found.append(Change(who, kind, name, first, second))
    return found


def actors(*configs: PoliciesConfig) -> Iterator[tuple[str, Actor]]:
    """Somebody nobody names, and everybody that a rule names, alone and by way of each agent it names."""
    whos = [rule.who for config in configs for rule in config.all_rules().values()]
    named: dict[str, Identity] = {"anybody": Identity(user="anybody")}
    for who in whos:
        named |= {f"user {one}": Identity(user=one) for one in map(sample, who.users)}
        named |= {f"group {one}": Identity(user="anybody", groups=frozenset([one])) for one in map(sample, who.groups)}
        named |= {
            f"service principal {one}": Identity(user=one, kind="service")
            for one in map(sample, who.service_principals)
        }
    agents = sorted({sample(one) for who in whos for one in who.agents})
    for name, identity in named.items():
        yield name, Actor(identity, "api")
        for agent in agents:
            yield f"{name} by way of {agent}", Actor(identity, "api", (agent,))


def resources(*configs: PoliciesConfig) -> list[tuple[ActionKind, str]]:
    return sorted(
        {
            (kind, sample(name))
            for config in configs
            for rule in config.all_rules().values()
            for kind, names in rule.resources.items()
            for name in names
        }
    )


def sample(pattern: str) -> str:
    return pattern.replace("**", "any").replace("*", "any")


def described(decision: Decision) -> str:
    if decision is FREE:
        return "allow: no rule is about this kind of action"
    return f"{decision.effect}: {decision.reason}"
