"""What is known about the execution now running, carried by a context variable.

The engine opens one scope per execution. Rooms below it (models, prompts, memory, tools) read the deadline
from it and note what they used, so that agents need not thread either through every call, and so that a
nested execution cannot outlive the one that called it. It holds facts, no behaviour.
"""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol

from lakemesh.deadline import Deadline
from lakemesh.schemas import ApprovalRequest, Identity


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelUse:
    """One finished model call: tokens are counts, times are in milliseconds. `operation` and `provider` are the GenAI
    conventions' names; `first_token_ms` is how long the first piece of a streamed answer took."""

    endpoint: str
    model: str
    route: str
    input_tokens: int = 0
    output_tokens: int = 0
    latency_ms: float = 0.0
    finish_reason: str | None = None
    cost_usd: float = 0.0
    cached: bool = False
    error_code: str | None = None
    operation: str = "chat"
    provider: str = ""
    first_token_ms: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class PromptUse:
    """A prompt version that was rendered; `label` says how it was chosen (pinned, alias, experiment arm, latest)."""

    name: str
    version: int
    label: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Variation:
    """Which version of its agent an execution was given by a rollout. `unit` is the digest of the user or session it
    was drawn for, `prompts` and `routes` what the version has pinned and renamed. A `shadow` answers for nobody."""

    rollout: str
    stage: str
    arm: Literal["baseline", "candidate", "shadow"]
    unit: int
    prompts: Mapping[str, int] = field(default_factory=dict)
    routes: Mapping[str, str] = field(default_factory=dict)
    is_shadowed: bool = False


class Clock(Protocol):
    """What ends an execution at its deadline. Paused while the execution waits for a person."""

    def pause(self) -> None: ...

    def resume(self) -> Deadline:
        """The deadline from now on: as much later as the pause was long."""
        ...


class Durable(Protocol):
    """What an execution has beside it that outlives its process: a place for its state and for answers."""

    @property
    def state(self) -> Any:
        """What an earlier attempt saved last; None at first."""
        ...

    @property
    def run_id(self) -> str:
        """What names it in all its attempts."""
        ...

    async def is_cancelled(self) -> bool:
        """Whether it was cancelled, so that nothing will go on with it. Raises `Unavailable`."""
        ...

    async def save(self, state: Any) -> None:
        """Keep JSON-ready state for the next attempt, should this one not end. Raises `Unavailable`."""
        ...

    async def ask(self, agent_name: str, message: str, schema: Mapping[str, Any], *, timeout_seconds: float) -> Any:
        """The caller's answer as it was sent, when it comes or when an earlier attempt got it already; None declines.
        The execution may end meanwhile and run again. Raises `DeadlineExceeded`."""
        ...

    async def approve(self, request: ApprovalRequest, on_new: Callable[[str], None]) -> Mapping[str, Any]:
        """What a person decided: `id`, `approved`, `by` and `comment`, in the way that `ask` has its answer. `on_new`
        is given the id when nobody had been asked before. Raises `DeadlineExceeded`."""
        ...


class Guard(Protocol):
    """What an execution may do, as the policies in force have it. `kind` is a kind of action of
    `lakemesh.config.policies`, `names` those the thing goes by."""

    def allows(self, kind: Any, *names: str) -> bool:
        """Whether it may be done now, without asking anybody."""
        ...

    async def require(self, kind: Any, *names: str) -> None:
        """Raises `PolicyDenied` unless it may be done; waits for a person where a rule wants one to approve."""
        ...


class Charge(Protocol):
    """What was set aside in every budget that is about an action."""

    def settle(self, used: Mapping[Any, float]) -> None:
        """What was used of each unit, in place of what was set aside; a unit that is not named counts as used up."""
        ...


class Meter(Protocol):
    """The budgets an execution is held to. Units are those of `lakemesh.config.budgets`."""

    @property
    def counts_money(self) -> bool:
        """Whether what models cost is limited."""
        ...

    @property
    def output_tokens(self) -> int:
        """What to set aside for an answer of unknown length."""
        ...

    async def reserve(self, amounts: Mapping[Any, float]) -> Charge:
        """Set aside what an action may use at most, before it begins; `settle` it when it has ended, however it did.
        Raises `BudgetExceeded`, and `DatabaseUnavailable` where replicas share what they count."""
        ...


@dataclass(slots=True, kw_only=True)
class ExecutionScope:
    """Mutable on purpose: the rooms append to `model_uses`, `prompt_uses` and `degraded` as the work goes on.

    Scopes form a tree: `parent` is the scope of the agent that called this one, and what a nested execution used is
    its caller's use too. `depth` counts the agents that called one another to get here; 0 is the one a door called.
    `guard` is None where no policy is in force and nothing is audited. Where there is one, `decisions` are what the
    policies decided (action, effect, rule), `accesses` what data was read and written (kind, name, rows), `findings`
    what rules about content found and let pass. `meter` is None where no budget is in force; in the root, `run_ledger`
    is what the whole run has used of budgets per run, and `warnings` are of budgets that are nearly used up, by id and
    unit. `origins` says where texts came from that any agent of the tree has taken in; all of them share it.
    `variation` is set where a rollout is under way.
    """

    execution_id: str
    agent_name: str
    identity: Identity
    deadline: Deadline
    session_id: str | None = None
    door: str = "api"
    parent: "ExecutionScope | None" = field(default=None, repr=False)
    depth: int = 0
    clocks: list[Clock] = field(default_factory=list, repr=False)
    durable: Durable | None = field(default=None, repr=False)
    guard: Guard | None = field(default=None, repr=False)
    meter: Meter | None = field(default=None, repr=False)
    run_ledger: Any = field(default=None, repr=False)
    warnings: dict[str, Mapping[str, Any]] = field(default_factory=dict)
    origins: set[str] = field(default_factory=set)
    variation: Variation | None = None
    queue_ms: float = 0.0
    model_uses: list[ModelUse] = field(default_factory=list)
    prompt_uses: list[PromptUse] = field(default_factory=list)
    degraded: list[str] = field(default_factory=list)
    findings: list[str] = field(default_factory=list)
    decisions: list[tuple[str, str, str]] = field(default_factory=list)
    accesses: list[tuple[str, str, int]] = field(default_factory=list)

    @property
    def parent_execution_id(self) -> str | None:
        return self.parent.execution_id if self.parent is not None else None

    @property
    def root(self) -> "ExecutionScope":
        """The scope of the execution that a door asked for."""
        scope = self
        while scope.parent is not None:
            scope = scope.parent
        return scope

    @property
    def is_shadow(self) -> bool:
        """Whether it answers beside another, for comparison: it may not act, and nobody is charged for it."""
        variation = self.root.variation
        return variation is not None and variation.arm == "shadow"

    def current_deadline(self) -> Deadline:
        """The execution's deadline, or the earlier one of the `narrowed` block the running code is in."""
        return self.deadline.earliest(narrowed_deadline.get())


narrowed_deadline: ContextVar[Deadline | None] = ContextVar("lakemesh_narrowed_deadline", default=None)
"""What `narrowed` sets. A context variable, so that branches that run at once do not see each other's."""


@contextmanager
def narrowed(deadline: Deadline) -> Iterator[None]:
    """What happens inside, nested executions too, has until `deadline` at most."""
    token = narrowed_deadline.set(deadline.earliest(narrowed_deadline.get()))
    try:
        yield
    finally:
        narrowed_deadline.reset(token)


execution_scope: ContextVar[ExecutionScope | None] = ContextVar("lakemesh_execution_scope", default=None)
"""Set by the engine alone; everybody else reads it through the functions below."""


def current_scope() -> ExecutionScope | None:
    """The running execution's scope, or None outside of one (start-up, refreshes, jobs)."""
    return execution_scope.get()


def current_guard() -> Guard | None:
    """What holds the running execution to the policies; None outside of one, and where there are none."""
    scope = execution_scope.get()
    return scope.guard if scope is not None else None


def current_meter() -> Meter | None:
    """The budgets the running execution is held to; None outside of one, and where there are none."""
    scope = execution_scope.get()
    return scope.meter if scope is not None else None


def varied_route(route: str) -> str:
    """The model route in the place of this one, for the running execution: what a rollout gave it, or its caller."""
    scope = execution_scope.get()
    while scope is not None:
        if scope.variation is not None and route in scope.variation.routes:
            return scope.variation.routes[route]
        scope = scope.parent
    return route


def varied_prompt(name: str) -> int | None:
    """The version of a prompt that a rollout pinned for the running execution, or for its caller."""
    scope = execution_scope.get()
    while scope is not None:
        if scope.variation is not None and name in scope.variation.prompts:
            return scope.variation.prompts[name]
        scope = scope.parent
    return None


def note_origin(origin: str) -> None:
    """Remember that the running execution takes in text from there: `tool:NAME`, `table:NAME`, `memory`, ..."""
    scope = execution_scope.get()
    if scope is not None:
        scope.origins.add(origin)


def current_deadline(default_seconds: float) -> Deadline:
    """The running execution's deadline, or `default_seconds` from now outside of one."""
    scope = execution_scope.get()
    return scope.current_deadline() if scope is not None else Deadline.after(default_seconds)
