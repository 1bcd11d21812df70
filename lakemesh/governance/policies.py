"""The one place where it is decided whether somebody may do something."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, Literal
from zoneinfo import ZoneInfo

from lakemesh.config.policies import WEEKDAYS, ActionKind, Effect, Hours, PoliciesConfig, PolicyRule
from lakemesh.governance.content import ContentRules
from lakemesh.governance.patterns import matcher
from lakemesh.governance.rule_index import NameIndex, places
from lakemesh.schemas import Identity

MAX_KEPT = 8_192
"""Decisions kept, each a few hundred bytes."""
STRENGTH: Mapping[Effect, int] = {"allow": 0, "approve": 1, "deny": 2}

Matches = Callable[[str], bool]


@dataclass(frozen=True, slots=True)
class Action:
    """What is to be done to what. `names` are the names the thing goes by, brought to one form."""

    kind: ActionKind
    names: tuple[str, ...]

    def __str__(self) -> str:
        return f"{self.kind} {self.names[0]}"


@dataclass(frozen=True, slots=True)
class Actor:
    """Who does it: the caller, through which door, by way of which agents (the acting one first), having taken in text
    from where."""

    identity: Identity
    door: str
    agents: tuple[str, ...] = ()
    origins: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True)
class Decision:
    """`rule` is the id of the rule that decided; None where none did. `unknown_groups`: refused since nobody knows the
    caller's groups now. `action` is what it was about, in words, and `attributes` how a trace tells of it: made once,
    since a decision is taken again and again."""

    effect: Effect
    rule: str | None
    reason: str
    unknown_groups: bool = False
    action: str = field(default="", compare=False, repr=False)
    attributes: Mapping[str, str] = field(init=False, compare=False, repr=False)

    def __post_init__(self) -> None:
        attributes = {
            "lakemesh.policy.action": self.action,
            "lakemesh.policy.effect": self.effect,
            "lakemesh.policy.rule": self.rule or "",
            "lakemesh.policy.reason": self.reason,
        }
        object.__setattr__(self, "attributes", attributes)


FREE = Decision("allow", None, "no rule is about this")


class Policies:
    """Decides by the rules in force in one environment. Decisions are kept for as long as they stand, so that asking
    again costs a lookup. `governs_anything`: whether there is any rule at all."""

    def __init__(
        self, config: PoliciesConfig, *, environment: str = "", now: Callable[[], datetime] = lambda: datetime.now(UTC)
    ) -> None:
        self.config = config
        self._now = now
        rules = [
            Rule(name, rule)
            for name, rule in config.all_rules().items()
            if not rule.environments or environment in rule.environments
        ]
        self._rules: dict[ActionKind, Rules] = {}
        for rule in sorted(rules, key=lambda one: -STRENGTH[one.effect]):
            for kind in rule.resources:
                self._rules.setdefault(kind, Rules(kind)).add(rule)
        self.content = ContentRules(config.content)
        self.is_dry_run = config.mode == "dry_run"
        self.governs_anything = bool(self._rules or config.content)
        self._timed = any(rule.hours is not None for rule in rules)
        self._kept: dict[Any, Decision] = {}

    def governs(self, kind: ActionKind) -> bool:
        """Whether any rule in force is about this kind of action."""
        return kind in self._rules

    def decide(self, actor: Actor, action: Action) -> Decision:
        rules = self._rules.get(action.kind)
        if rules is None:
            return FREE
        minute = int(self._now().timestamp()) // 60 if self._timed else 0
        key = (actor.identity, actor.door, actor.agents, actor.origins, action.kind, action.names, minute)
        decision = self._kept.get(key)
        if decision is None:
            if len(self._kept) >= MAX_KEPT:
                self._kept.clear()
            decision = self._kept[key] = self._decided(rules.about(actor, action), actor, action)
        return decision

    def _decided(self, rules: Iterable["Rule"], actor: Actor, action: Action) -> Decision:
        """By the strongest rule that matches; rules come the strongest first."""
        unknown, about = False, str(action)
        for rule in rules:
            match = rule.match(actor, action, self._now)
            if match == "yes":
                return Decision(rule.effect, rule.name, f"the rule {rule.name!r} says {rule.effect}", action=about)
            if match == "unknown" and not unknown:
                unknown = True
                if rule.effect != "allow":
                    break  # it might be meant for this caller
        if unknown:
            return Decision(
                "deny", None, "the caller's groups cannot be looked up now", unknown_groups=True, action=about
            )
        return Decision("deny", None, f"no rule allows it, and there are rules about {action.kind!r}", action=about)


class Rules:
    """The rules about one kind of action, the strongest first, found by what they are about and whom they are for: of
    three hundred, a decision has a handful to look at."""

    def __init__(self, kind: ActionKind) -> None:
        self._kind: ActionKind = kind
        self._rules: list[Rule] = []
        self._resources, self._agents = NameIndex(), NameIndex()
        self._users, self._groups = NameIndex(), NameIndex()
        self._for_any_caller = self._by_any_agent = 0

    def add(self, rule: "Rule") -> None:
        place, who = len(self._rules), rule.rule.who
        self._rules.append(rule)
        self._resources.add(place, rule.rule.resources[self._kind])
        self._agents.add(place, who.agents)
        self._users.add(place, [*who.users, *who.service_principals])
        self._groups.add(place, who.groups)
        self._by_any_agent |= (not who.agents) << place
        self._for_any_caller |= (not (who.users or who.groups or who.service_principals)) << place

    def about(self, actor: Actor, action: Action) -> "Iterator[Rule]":
        """Those that may match."""
        found = self._resources.of(action.names) & (self._by_any_agent | self._agents.of(actor.agents))
        identity = actor.identity
        if not identity.groups_unknown:
            users = self._users.of(name for name in (identity.user, identity.email) if name)
            found &= self._for_any_caller | users | self._groups.of(identity.groups)
        return map(self._rules.__getitem__, places(found))


@dataclass(slots=True)
class Rule:
    """One rule, ready to be asked."""

    name: str
    rule: PolicyRule
    resources: dict[ActionKind, Matches] = field(init=False)
    _users: Matches = field(init=False)
    _services: Matches = field(init=False)
    _groups: Matches = field(init=False)
    _agents: Matches = field(init=False)
    _origins: Matches = field(init=False)

    def __post_init__(self) -> None:
        who = self.rule.who
        self.resources = {kind: matcher(names) for kind, names in self.rule.resources.items() if names}
        self._users, self._services = matcher(who.users), matcher(who.service_principals)
        self._groups, self._agents = matcher(who.groups), matcher(who.agents)
        self._origins = matcher(self.rule.origins)

    @property
    def effect(self) -> Effect:
        return self.rule.effect

    @property
    def hours(self) -> Hours | None:
        return self.rule.hours

    def match(self, actor: Actor, action: Action, now: Callable[[], datetime]) -> Literal["yes", "no", "unknown"]:
        """`unknown` when everything fits but the caller's groups, which nobody knows."""
        rule = self.rule
        fits = (
            (not rule.doors or actor.door in rule.doors)
            and any(map(self.resources[action.kind], action.names))
            and (not rule.who.agents or any(map(self._agents, self._acting(actor))))
            and (not rule.origins or any(map(self._origins, actor.origins)))
            and (rule.hours is None or is_within(rule.hours, now()))
        )
        return self._is_meant(actor.identity) if fits else "no"

    def _acting(self, actor: Actor) -> Sequence[str]:
        """Permission is for the agent that acts itself; a refusal is for everybody who has it done, too."""
        return actor.agents[:1] if self.rule.effect == "allow" else actor.agents

    def _is_meant(self, identity: Identity) -> Literal["yes", "no", "unknown"]:
        who = self.rule.who
        if not (who.users or who.groups or who.service_principals):
            return "yes"
        names = [name for name in (identity.user, identity.email) if name]
        is_service = identity.kind == "service" and any(map(self._services, names))
        if is_service or any(map(self._users, names)) or any(map(self._groups, identity.groups)):
            return "yes"
        return "unknown" if who.groups and identity.groups_unknown else "no"


def is_within(hours: Hours, moment: datetime) -> bool:
    """Whether a moment is in these hours; those over midnight belong to the day on which they begin."""
    local = moment.astimezone(ZoneInfo(hours.timezone))
    begin, end = hours.minutes()
    minute, day = local.hour * 60 + local.minute, local.weekday()
    if begin <= end:
        return begin <= minute < end and WEEKDAYS[day] in hours.days
    if minute >= begin:
        return WEEKDAYS[day] in hours.days
    return minute < end and WEEKDAYS[(day - 1) % 7] in hours.days
