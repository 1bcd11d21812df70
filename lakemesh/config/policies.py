"""Who may do what: rules in configuration, by id, so that an environment's file may change one of them."""

import re
from collections.abc import Mapping
from datetime import time
from typing import Any, Literal, Self
from zoneinfo import ZoneInfo

from pydantic import Field, field_validator, model_validator

from lakemesh.config.base import Section

ActionKind = Literal["call", "model", "read", "write", "send"]
"""Call an agent or tool; ask a model; read or write a table, a volume's path or an index; send data to a host."""

Effect = Literal["allow", "deny", "approve"]
Weekday = Literal["mon", "tue", "wed", "thu", "fri", "sat", "sun"]
WEEKDAYS: tuple[Weekday, ...] = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")
RULE_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,63}")


class Subjects(Section):
    """Who acts. A caller is meant who is among the users, the groups or the service principals; `agents` is the agent
    that acts in the caller's name. What is empty means everybody. Names may hold `*`."""

    users: list[str] = []
    groups: list[str] = []
    service_principals: list[str] = []
    agents: list[str] = []


class Hours(Section):
    """When a rule is in force: from one time of the day up to another (over midnight, when it is earlier)."""

    begin: str = Field(default="00:00", pattern=r"^([01]\d|2[0-3]):[0-5]\d$")
    end: str = Field(default="24:00", pattern=r"^(([01]\d|2[0-3]):[0-5]\d|24:00)$")
    days: list[Weekday] = list(WEEKDAYS)
    timezone: str = "UTC"

    @field_validator("timezone")
    @classmethod
    def _is_known(cls, name: str) -> str:
        try:
            ZoneInfo(name)
        except (KeyError, ValueError, OSError):
            raise ValueError(f"there is no time zone {name!r:.60}") from None
        return name

    def minutes(self) -> tuple[int, int]:
        """Begin and end, in minutes of the day."""
        return minute_of(self.begin), minute_of(self.end)


class ApproversConfig(Section):
    """Who may approve: any of these users, any member of these groups."""

    users: list[str] = []
    groups: list[str] = []


class PolicyRule(Section):
    """What `who` may (`allow`), may not (`deny`), or may when a person approves (`approve`) do. A name may hold `*`,
    which stops at the next dot or slash, and `**`, which does not.

    `origins`: the rule holds only for a run that has taken in text from one of these: `tool:NAME`, `peer:NAME`,
    `table:NAME`, `path:PATH`, `memory`."""

    effect: Effect = "allow"
    description: str = ""
    who: Subjects = Subjects()
    call: list[str] = Field(default=[], description="agents and tools, by name")
    model: list[str] = Field(default=[], description="models or endpoints, by name, or region:NAME")
    read: list[str] = Field(default=[], description="tables and indexes, catalog.schema.name, or paths")
    write: list[str] = Field(default=[], description="as for read")
    send: list[str] = Field(default=[], description="hosts, peers and MCP servers")
    doors: list[str] = Field(default=[], description="api, mcp, a2a, ...; empty: all")
    environments: list[str] = Field(default=[], description="empty: all")
    hours: Hours | None = None
    origins: list[str] = []
    approvers: ApproversConfig | None = Field(default=None, description="for approve: who may, else as approvals says")

    @property
    def resources(self) -> Mapping[ActionKind, list[str]]:
        return {"call": self.call, "model": self.model, "read": self.read, "write": self.write, "send": self.send}

    @model_validator(mode="after")
    def _says_something(self) -> Self:
        if not any(self.resources.values()):
            raise ValueError("a rule names what it is about: call, model, read, write or send")
        if self.effect == "approve" and self.model:
            raise ValueError("a model cannot wait for an approval; let the agent that asks it wait (call)")
        if self.approvers is not None and self.effect != "approve":
            raise ValueError("approvers are for rules whose effect is approve")
        return self


class DataAccess(Section):
    readOnlyPaths: list[str] = []  # noqa: N815 - the form's own name


class PolicyDocument(Section):
    """The plain JSON form that other tools write: models that may be used, paths that may be read and not written."""

    policyName: str = Field(pattern=f"^{RULE_ID.pattern}$")  # noqa: N815
    allowedModels: list[str] | None = None  # noqa: N815
    auditLogging: bool = False  # noqa: N815
    dataAccess: DataAccess = DataAccess()  # noqa: N815

    def rules(self) -> dict[str, PolicyRule]:
        """The same as rules of ours."""
        rules = {}
        if self.allowedModels is not None:
            rules[f"{self.policyName}.models"] = PolicyRule(model=self.allowedModels or [NOTHING])
        if paths := [below for path in self.dataAccess.readOnlyPaths for below in with_everything_below(path)]:
            rules[f"{self.policyName}.read"] = PolicyRule(read=paths)
            rules[f"{self.policyName}.write"] = PolicyRule(effect="deny", write=paths)
        return rules


NOTHING = "-"
"""Matches no name."""

Finding = Literal["card_number", "email", "token", "injection"]


class ContentRule(Section):
    """What texts that go into agents, or come out of them, may hold."""

    agents: list[str] = Field(default=["**"], min_length=1)
    direction: Literal["in", "out", "both"] = "both"
    find: list[Finding] = Field(default=[], description="what to look for")
    words: list[str] = Field(default=[], description="topics by their words, in any case; whole words")
    max_characters: int | None = Field(default=None, ge=1, description="of all texts together")
    action: Literal["block", "mask", "tell"] = Field(
        default="block", description="refuse; take out what was found; or let it pass and say so"
    )

    @model_validator(mode="after")
    def _looks_for_something(self) -> Self:
        if not self.find and not self.words and self.max_characters is None:
            raise ValueError("a content rule looks for something: find, words or max_characters")
        if self.action == "mask" and (self.words or self.max_characters or "injection" in self.find):
            raise ValueError("only card_number, email and token can be masked")
        return self


class PoliciesConfig(Section):
    """Where a rule names a kind of action (`call`, `model`, `read`, `write`, `send`), what no rule allows is refused;
    kinds that no rule names are free. `deny` is stronger than `approve`, and that than `allow`."""

    mode: Literal["enforce", "dry_run"] = Field(
        default="enforce", description="dry_run refuses nothing and says in traces what it would have refused"
    )
    rules: dict[str, PolicyRule] = {}
    content: dict[str, ContentRule] = {}
    documents: list[PolicyDocument] = []

    @field_validator("rules", "content")
    @classmethod
    def _ids_are_plain(cls, named: dict[str, Any]) -> dict[str, Any]:
        if faults := [name for name in named if not RULE_ID.fullmatch(name)]:
            raise ValueError(f"ids of rules are letters, digits, '.', '-' and '_': {', '.join(map(repr, faults))}")
        return named

    def all_rules(self) -> dict[str, PolicyRule]:
        """Those written as rules and those of documents."""
        return {**{name: rule for one in self.documents for name, rule in one.rules().items()}, **self.rules}

    @property
    def names_groups(self) -> bool:
        return any(
            rule.who.groups or (rule.approvers is not None and rule.approvers.groups) for rule in self.rules.values()
        )


def with_everything_below(path: str) -> tuple[str, str]:
    return path.rstrip("/"), f"{path.rstrip('/')}/**"


def minute_of(text: str) -> int:
    if text == "24:00":
        return 24 * 60
    at = time.fromisoformat(text)
    return at.hour * 60 + at.minute
