"""What an execution may use up: set aside in every budget about it before it acts, settled when it has acted."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

import structlog
from opentelemetry import trace
from opentelemetry.metrics import Meter as Metrics

from lakemesh.config.budgets import BudgetConfig, BudgetsConfig, Unit
from lakemesh.errors import BudgetExceeded
from lakemesh.governance.calendar import Calendar
from lakemesh.governance.guard import agents_of
from lakemesh.governance.ledger import OF_SESSION, PARTS, Account, Ask, Balance, Ledger, LocalLedger, Reservation
from lakemesh.governance.patterns import matcher
from lakemesh.schemas import Identity
from lakemesh.scope import ExecutionScope, current_scope

logger = structlog.get_logger(__name__)

MAX_KEPT = 8_192
"""Which lines are about whom, and of whom it was logged that little is left: entries kept, some hundred bytes each."""
LEAST_RUN_SECONDS = 1.0
"""A run is begun when so much is left for it, and ended when that is over."""

Subject = tuple["Line", str]
Wanted = tuple[Unit, float, float, tuple[str, ...]]
"""A unit, how much of it at most and at least, and the agents whose use it is."""


@dataclass(slots=True)
class Line:
    """One unit of one budget, ready to be asked."""

    name: str
    unit: Unit
    limit: int
    config: BudgetConfig
    _users: Callable[[str], bool] = field(init=False)
    _groups: Callable[[str], bool] = field(init=False)
    _agents: Callable[[str], bool] = field(init=False)

    def __post_init__(self) -> None:
        config = self.config
        self._users, self._agents = matcher(config.users or ["**"]), matcher(config.agents or ["**"])
        self._groups = matcher(config.groups or ["**"])

    def subjects(self, identity: Identity, agents: Sequence[str]) -> Iterator[str]:
        """Whose accounts an action of these agents, for this caller, is counted in. Of a session and a run the name is
        not known here, and left empty."""
        groups = [name for name in sorted(identity.groups) if self._groups(name)]
        acting = [name for name in dict.fromkeys(agents) if self._agents(name)]
        if not acting or not any(self._users(name) for name in (identity.user, identity.email) if name):
            return
        if self.config.per == "group":
            yield from groups
        elif self.config.groups and not groups:
            return
        elif self.config.per == "agent":
            yield from acting
        else:
            yield identity.user if self.config.per == "user" else ""


SHADOWS = Identity(user="shadow", kind="service")
"""Whom shadow runs are charged to: they are not what the caller asked for."""


class Budgets:
    """The budgets in force, over the ledger that holds what was used. `warned` counts by budget and unit."""

    def __init__(self, config: BudgetsConfig, ledger: Ledger, metrics: Metrics) -> None:
        self.ledger = ledger
        self._refusals = metrics.create_counter("lakemesh.budget.refusals", "{action}", "Actions that budgets refused")
        self._warnings = metrics.create_counter(
            "lakemesh.budget.warnings", "{action}", "Actions within budgets that are nearly used up"
        )
        self._logged: set[Account] = set()
        self.meter = BudgetMeter(self)
        self.configure(config)

    def configure(self, config: BudgetsConfig) -> None:
        """Hold to these from the next action on. What was used stays used, by the ids of budgets."""
        self.config = config
        self.calendar = Calendar(config.timezone)
        self._lines: dict[Unit, list[Line]] = {}
        for name, one in config.limits.items():
            for unit, limit in one.limits.items():
                self._lines.setdefault(unit, []).append(Line(name, unit, int(limit * PARTS[unit]), one))
        self._kept: dict[tuple[Any, ...], Sequence[Subject]] = {}
        if self._lines and isinstance(self.ledger, LocalLedger):
            logger.warning("budgets are counted by this process alone, from nothing: there is no LAKEMESH_DATABASE")

    @property
    def active(self) -> bool:
        return bool(self._lines)

    def lines(self, unit: Unit, identity: Identity, agents: tuple[str, ...]) -> Sequence[Subject]:
        """The lines that an action counts in, and for whom."""
        of_unit = self._lines.get(unit)
        if of_unit is None:
            return ()
        key = (unit, identity.user, identity.email, identity.groups, agents)  # cheaper to hash than the identity
        found = self._kept.get(key)
        if found is None:
            if len(self._kept) >= MAX_KEPT:
                self._kept.clear()
            found = [(line, subject) for line in of_unit for subject in line.subjects(identity, agents)]
            self._kept[key] = found
        return found

    def limits(self, unit: Unit) -> bool:
        """Whether any budget is about this unit."""
        return unit in self._lines

    def refusal(self, reservation: Reservation) -> BudgetExceeded:
        """The error that says what is left of the first budget that stood against it, and when it renews."""
        for ask, balance in zip(reservation.asks, reservation.balances, strict=True):
            left = ask.limit - balance.spent - balance.reserved
            if left < ask.least:
                self._refusals.add(1, {"budget": ask.account.budget, "unit": ask.account.unit})
                return self._exceeded(ask, max(0, left))
        raise AssertionError("nothing stood against it")

    def _exceeded(self, ask: Ask, left: int) -> BudgetExceeded:
        account = ask.account
        told = told_of(ask, left)
        renewal = f" A new period begins at {told['renews_at']}." if ask.ends_at else ""
        return BudgetExceeded(
            f"The budget {account.budget!r} has {told['left']:g} of {told['limit']:g} {account.unit} left, and this "
            f"may take {natural(account.unit, ask.least):g}.{renewal}",
            retry_after_seconds=max(1.0, self.calendar.seconds_until(ask.ends_at)) if ask.ends_at else None,
            **told,
        )

    def note(self, scope: ExecutionScope, reservation: Reservation) -> None:
        """Warn of budgets that are nearly used up: in the answer, the trace and the metrics, and once in the log."""
        warn_at = self.config.warn_at
        for ask, balance in zip(reservation.asks, reservation.balances, strict=True):
            threshold = ask.limit * warn_at
            spent, reserved = balance
            if spent >= threshold or (spent + reserved >= threshold and ask.account.unit != "run_seconds"):
                self._warn(scope, ask, balance)

    def _warn(self, scope: ExecutionScope, ask: Ask, balance: Balance) -> None:
        account = ask.account
        told = told_of(ask, max(0, ask.limit - balance.spent - balance.reserved))
        scope.root.warnings[f"{account.budget} {account.unit}"] = told
        attributes = {f"lakemesh.budget.{name}": value for name, value in told.items() if value is not None}
        trace.get_current_span().add_event("lakemesh.budget.warning", attributes)
        self._warnings.add(1, {"budget": account.budget, "unit": account.unit})
        if account not in self._logged:
            if len(self._logged) >= MAX_KEPT:
                self._logged.clear()
            self._logged.add(account)
            logger.warning("budget nearly used up", subject=account.subject, **told)

    async def standing(self, identity: Identity, agents: Sequence[str]) -> list[dict[str, Any]]:
        """How the budgets stand that are about this caller, and about these agents. Raises `DatabaseUnavailable`."""
        found: dict[Account, tuple[Line, int]] = {}
        for line in self._all_lines():
            if line.config.per in ("run", "session"):
                continue
            begins_at, ends_at = self.calendar.period(line.config.period)
            for subject in line.subjects(identity, agents):
                found[Account(line.name, line.unit, subject, begins_at)] = (line, ends_at)
        balances = await self.ledger.balances(list(found))
        return [
            statement_of(account, line, balance, ends_at)
            for (account, (line, ends_at)), balance in zip(found.items(), balances, strict=True)
        ]

    async def statements(self, limit: int) -> list[dict[str, Any]]:
        """How everybody's stand, of the budgets in force. Raises `DatabaseUnavailable`."""
        lines = {(line.name, line.unit): line for line in self._all_lines()}
        return [
            statement_of(one.account, lines[one.account[:2]], one.balance, one.ends_at)
            for one in await self.ledger.open_accounts(limit)
            if one.account[:2] in lines
        ]

    def _all_lines(self) -> Iterator[Line]:
        for of_unit in self._lines.values():
            yield from of_unit

    def health(self) -> Mapping[str, Any]:
        return self.ledger.health()


@dataclass(slots=True)
class ScopeCharge:
    """A `lakemesh.scope.Charge`. Settled once; what comes later changes nothing."""

    parts: list[tuple[Ledger, Reservation]]

    def granted(self, unit: Unit) -> float | None:
        """How much of it was given, or None where no budget is about it."""
        if not self.parts:
            return None
        found = [
            amount
            for _, one in self.parts
            for ask, amount in zip(one.asks, one.granted, strict=True)
            if ask.account.unit == unit
        ]
        return natural(unit, min(found)) if found else None

    def settle(self, used: Mapping[Any, float]) -> None:
        for ledger, reservation in self.parts:
            amounts = [
                parts_of(ask.account.unit, used[ask.account.unit]) if ask.account.unit in used else granted
                for ask, granted in zip(reservation.asks, reservation.granted, strict=True)
            ]
            ledger.settle(reservation, amounts)
        self.parts = []


class BudgetMeter:
    """A `lakemesh.scope.Meter`, one for all executions: it asks which one is running. (One that held its scope, which
    holds it, would be a circle for each execution, and work for the garbage collector.)"""

    __slots__ = ("_budgets",)

    def __init__(self, budgets: Budgets) -> None:
        self._budgets = budgets

    @property
    def counts_money(self) -> bool:
        scope = running_scope()
        return bool(self._budgets.lines("usd", payer_of(scope), tuple(agents_of(scope))))

    @property
    def output_tokens(self) -> int:
        return self._budgets.config.output_tokens

    async def reserve(self, amounts: Mapping[Unit, float]) -> ScopeCharge:
        scope, limits = running_scope(), self._budgets.limits
        agents = tuple(agents_of(scope))
        wanted = [(unit, amount, amount, agents) for unit, amount in amounts.items() if limits(unit)]
        return await Purchase(self._budgets, scope).reserve(wanted)

    async def admit(self, scope: ExecutionScope) -> ScopeCharge:
        """For the execution itself: a call of its agent; a tool call of the agents that asked for it; or, where a door
        did, the time of a run, as much as is left up to its deadline."""
        limits, own = self._budgets.limits, (scope.agent_name,)
        wanted: list[Wanted] = [("calls", 1.0, 1.0, own)] if limits("calls") else []
        if scope.parent is not None:
            if limits("tool_calls"):
                wanted.append(("tool_calls", 1.0, 1.0, tuple(agents_of(scope.parent))))
        elif limits("run_seconds"):
            seconds = scope.deadline.remaining_seconds()
            wanted.append(("run_seconds", seconds, min(seconds, LEAST_RUN_SECONDS), own))
        return await Purchase(self._budgets, scope).reserve(wanted)


class Purchase:
    """What one action of an execution sets aside. What is limited per run is kept with the run."""

    __slots__ = ("_budgets", "_payer", "_scope")

    def __init__(self, budgets: Budgets, scope: ExecutionScope) -> None:
        self._budgets = budgets
        self._scope = scope
        self._payer = payer_of(scope)

    async def reserve(self, wanted: Sequence[Wanted]) -> ScopeCharge:
        in_run: list[Ask] = []
        shared: list[Ask] = []
        for unit, amount, least, agents in wanted:
            for line, subject in self._budgets.lines(unit, self._payer, agents):
                if line.config.per == "session" and self._scope.session_id is None:
                    continue
                ask = self._ask(line, subject, parts_of(unit, amount), parts_of(unit, least))
                (in_run if line.config.per == "run" else shared).append(ask)
        charge = ScopeCharge([])
        if in_run:
            run = self._run_ledger()
            self._take(run, run.reserve_now(in_run), charge)
        if shared:
            ledger = self._budgets.ledger
            try:
                if isinstance(ledger, LocalLedger):
                    reservation = ledger.reserve_now(shared)
                else:
                    reservation = await ledger.reserve(shared)
                self._take(ledger, reservation, charge)
            except BaseException:
                charge.settle(dict.fromkeys(PARTS, 0.0))
                raise
        return charge

    def _run_ledger(self) -> LocalLedger:
        root = self._scope.root
        if not isinstance(root.run_ledger, LocalLedger):
            root.run_ledger = LocalLedger()
        return root.run_ledger

    def _take(self, ledger: Ledger, reservation: Reservation, charge: ScopeCharge) -> None:
        if reservation.refused:
            raise self._budgets.refusal(reservation)
        charge.parts.append((ledger, reservation))
        self._budgets.note(self._scope, reservation)

    def _ask(self, line: Line, subject: str, amount: int, least: int) -> Ask:
        if line.config.per == "session":
            subject = f"{self._payer.user}{OF_SESSION}{self._scope.session_id}"
        begins_at, ends_at = self._budgets.calendar.period(line.config.period)
        owner = self._payer.user if line.config.per in ("user", "session") else ""
        return Ask(Account(line.name, line.unit, subject, begins_at), line.limit, amount, least, ends_at, owner)


def payer_of(scope: ExecutionScope) -> Identity:
    return SHADOWS if scope.is_shadow else scope.identity


def running_scope() -> ExecutionScope:
    scope = current_scope()
    assert scope is not None, "a meter is asked inside of an execution"
    return scope


def parts_of(unit: Unit, amount: float) -> int:
    """Rounded up: what costs a part of a part costs a part."""
    return -int(-amount * PARTS[unit] // 1)


def natural(unit: Unit, parts: int) -> float:
    return parts / PARTS[unit]


def statement_of(account: Account, line: Line, balance: Balance, ends_at: int) -> dict[str, Any]:
    """How an account stands, in natural units."""
    left = max(0, line.limit - balance.spent - balance.reserved)
    return {
        **told_of(Ask(account, line.limit, 0, 0, ends_at), left),
        "per": line.config.per,
        "period": line.config.period,
        "subject": account.subject.replace(OF_SESSION, " "),
        "description": line.config.description,
        "spent": natural(account.unit, balance.spent),
        "reserved": natural(account.unit, balance.reserved),
    }


def told_of(ask: Ask, left: int) -> dict[str, Any]:
    """What a caller is told of a budget."""
    account = ask.account
    renews_at = datetime.fromtimestamp(ask.ends_at, UTC).isoformat() if ask.ends_at else None
    return {
        "budget": account.budget,
        "unit": account.unit,
        "limit": natural(account.unit, ask.limit),
        "left": natural(account.unit, left),
        "renews_at": renews_at,
    }
