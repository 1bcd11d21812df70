"""The whole configuration: `lakemesh.yaml`, as typed sections."""

import re
from typing import Self

from pydantic import Field, model_validator

from lakemesh.config.a2a import A2aConfig
from lakemesh.config.agents import AgentConfig
from lakemesh.config.approvals import ApprovalsConfig
from lakemesh.config.audit import AuditConfig
from lakemesh.config.base import Section
from lakemesh.config.budgets import BudgetsConfig
from lakemesh.config.console import ConsoleConfig
from lakemesh.config.governance import AuthConfig, LimitsConfig
from lakemesh.config.invocations import InvocationsConfig
from lakemesh.config.mcp import McpConfig
from lakemesh.config.memory import MemoryConfig
from lakemesh.config.models import ModelsConfig
from lakemesh.config.policies import PoliciesConfig
from lakemesh.config.prompts import PromptsConfig
from lakemesh.config.rollouts import FlagsConfig, RolloutsConfig
from lakemesh.config.schedules import ScheduleConfig
from lakemesh.config.server import ServerConfig
from lakemesh.config.telemetry import TelemetryConfig

AGENT_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,63}")
SERVER_NAME = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9-]|_(?!_)){0,31}")


class Config(Section):
    """Everything a file may say. Sections that are left out take their defaults."""

    refresh_seconds: float = Field(default=300.0, gt=0, description="how often the files are read again")
    server: ServerConfig = ServerConfig()
    agents: dict[str, AgentConfig]
    models: ModelsConfig = ModelsConfig()
    prompts: PromptsConfig = PromptsConfig()
    memory: MemoryConfig = MemoryConfig()
    telemetry: TelemetryConfig = TelemetryConfig()
    limits: LimitsConfig = LimitsConfig()
    auth: AuthConfig = AuthConfig()
    policies: PoliciesConfig = PoliciesConfig()
    budgets: BudgetsConfig = BudgetsConfig()
    approvals: ApprovalsConfig = ApprovalsConfig()
    audit: AuditConfig = AuditConfig()
    flags: FlagsConfig = FlagsConfig()
    rollouts: RolloutsConfig = RolloutsConfig()
    console: ConsoleConfig = ConsoleConfig()
    invocations: InvocationsConfig = InvocationsConfig()
    schedules: dict[str, ScheduleConfig] = {}
    mcp: McpConfig = McpConfig()
    a2a: A2aConfig = A2aConfig()

    @model_validator(mode="after")
    def _memory_has_one_model(self) -> Self:
        """Vectors of different models do not compare, so one of them would never be asked."""
        route = self.models.routes.get(self.memory.embedding_route)
        models = {self.models.endpoints[name].model_name for name in route.endpoints} if route is not None else set()
        if len(models) > 1:
            named = ", ".join(sorted(models))
            raise ValueError(
                f"the route {self.memory.embedding_route!r} embeds for memory by different models ({named})"
            )
        return self

    @model_validator(mode="after")
    def _audit_has_its_table(self) -> Self:
        if self.audit.enabled and not self.telemetry.enabled:
            raise ValueError("audit.enabled needs telemetry.enabled, which brings its records to their table")
        if self.audit.enabled and set(self.telemetry.sink_names) == {"otlp"}:
            raise ValueError("audit.enabled needs a sink that writes tables: delta or zerobus in telemetry.sinks")
        return self

    @model_validator(mode="after")
    def _schedules_run_agents(self) -> Self:
        faults = [name for name in self.schedules if not AGENT_NAME.fullmatch(name)]
        if faults:
            raise ValueError(
                f"schedules are named by letters, digits, '.', '-' and '_': {', '.join(map(repr, faults))}"
            )
        missing = [
            f"{name!r} runs {one.agent!r}" for name, one in self.schedules.items() if one.agent not in self.agents
        ]
        if missing:
            raise ValueError(f"schedules run agents that there are, and {', '.join(missing)}")
        kept_minutes = self.invocations.retention_days * 1_440
        if late := [name for name, one in self.schedules.items() if one.every_minutes > kept_minutes]:
            raise ValueError(f"runs of the schedule {late[0]!r} are forgotten before the next; see retention_days")
        return self

    @property
    def names_groups(self) -> bool:
        """Whether anything depends on callers' groups."""
        policies = [one.allowed_groups for one in self.agents.values()]
        policies += [one.allowed_groups for one in (*self.mcp.servers.values(), *self.a2a.peers.values())]
        by_groups = any(policy is not None for policy in policies) or self.policies.names_groups
        by_groups = by_groups or self.budgets.names_groups or self.approvals.names_groups
        return by_groups or bool(self.server.operator_groups)

    @model_validator(mode="after")
    def _names_are_plain(self) -> Self:
        """A name goes into URLs, tool names and traces; `:` and `__` set remote agents apart from ours."""
        servers = (*self.mcp.servers, *self.a2a.peers)
        faults = [name for name in self.agents if not AGENT_NAME.fullmatch(name) or "__" in name]
        faults += [name for name in servers if not SERVER_NAME.fullmatch(name)]
        if faults:
            raise ValueError(f"names are letters, digits, '.', '-' and '_', not '__': {', '.join(map(repr, faults))}")
        if twice := set(self.mcp.servers) & set(self.a2a.peers):
            raise ValueError(f"a peer and an MCP server need names of their own: {', '.join(sorted(twice))}")
        return self
