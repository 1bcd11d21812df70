"""`anomaly`: looks at the watched tables, writes each alert once, tells of it, and asks about what it proposes."""

import asyncio
import importlib
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from typing import Any

import structlog

from lakemesh.agents.anomaly.alerts import AlertStore
from lakemesh.agents.anomaly.checks import WatchChecks
from lakemesh.agents.anomaly.measures import Measures
from lakemesh.agents.anomaly.notify import Notifier
from lakemesh.agents.anomaly.schemas import Alert, AnomalyOptions, Asked, Check, Fault, Outcome, Proposal, Report, Watch
from lakemesh.agents.base import Agent, AgentContext, AgentServices
from lakemesh.agents.known_names import KnownNames
from lakemesh.agents.needs import Needs
from lakemesh.errors import (
    ApprovalRefused,
    ApprovalRequired,
    InvalidRequest,
    LakemeshError,
    NotFound,
    PermissionDenied,
    Unavailable,
    WorkspaceUnavailable,
)
from lakemesh.lakehouse.workspace import Workspace
from lakemesh.schemas import AgentInput, AgentOutput, Progress

logger = structlog.get_logger(__name__)

QUERY_SECONDS = 120.0


class AnomalyAgent(Agent[Asked, Report]):
    """Watches tables: volume, series, freshness, distributions and rules; writes alerts, tells of them, proposes."""

    input_model = Asked
    output_model = Report
    options_model = AnomalyOptions
    options: AnomalyOptions

    def __init__(self, name: str, options: Any, services: AgentServices) -> None:
        super().__init__(name, options, services)
        self._notifier = Notifier(self.options.notify)

    @classmethod
    def needs(cls, options: AnomalyOptions) -> Needs:
        tables = {watch.table for watch in options.watches.values()}
        return Needs(warehouse=True, tables=frozenset({*tables, options.alerts}))

    @classmethod
    def check_options(cls, options: AnomalyOptions, known: KnownNames) -> list[str]:
        return [
            fault
            for name, watch in options.watches.items()
            for check, proposal in proposals_of(watch).items()
            for fault in known.missing_agents(f"watches.{name}.{check}.proposal.agent", [proposal.agent])
        ]

    async def start(self) -> None:
        """Raises `Unavailable` now, where it would be the alerts that were not there."""
        try:
            await asyncio.to_thread(importlib.import_module, "statsmodels.tsa.seasonal")
        except ModuleNotFoundError:
            raise Unavailable("Forecasts need statsmodels: pip install 'lakemesh[anomaly]'.") from None

    async def process(self, request: AgentInput[Asked], context: AgentContext) -> AgentOutput[Report]:
        """An attempt that takes over from another, after a person's decision or its server's end, looks at the same
        moment, and goes on with what was written."""
        workspace = await context.workspace()
        store = AlertStore(self.options.alerts, self.name, workspace)
        run_id = run_of(context)
        before = context.checkpointed or {}
        now = datetime.fromisoformat(before["now"]) if before else (request.data.now or datetime.now(UTC))
        if "report" in before:
            report = Report.model_validate(before["report"])
        else:
            await context.checkpoint({"now": now.isoformat()})
            report = await self._looked(request.data.watch, store, workspace, now.astimezone(UTC), context)
            await context.checkpoint({"now": now.isoformat(), "report": report.model_dump(mode="json")})
        report.alerts = await store.of_run(run_id)
        await self._tell(store, run_id, context, report)
        report.outcomes = [outcome for alert in report.alerts async for outcome in self._proposed(alert, context)]
        for fault in report.faults:
            context.degrade(f"{fault.watch}.{fault.check}: {fault.reason}")
        return AgentOutput(agent_name=self.name, result=report)

    async def _looked(
        self, only: str | None, store: AlertStore, workspace: Workspace, now: datetime, context: AgentContext
    ) -> Report:
        """Every alert that is new is written. Raises `WorkspaceUnavailable` when nothing could be looked at."""
        report = Report(checked=0, alerts=[])
        watches = self._watches(only)
        await store.prepare()
        for index, (name, watch) in enumerate(watches.items()):
            context.emit(Progress(progress=index, total=len(watches), message=name))
            async for alert in self._found(name, watch, workspace, now, report):
                await self._write(alert, watch, store, run_of(context), report)
        if report.faults and report.checked == len(report.faults):
            raise WorkspaceUnavailable(f"Nothing could be looked at: {report.faults[0].reason}")
        return report

    def _watches(self, name: str | None) -> dict[str, Watch]:
        if name is not None and name not in self.options.watches:
            raise NotFound(f"There is no watch {name!r}; there are: {', '.join(self.options.watches)}.")
        return {key: watch for key, watch in self.options.watches.items() if name in (None, key)}

    async def _found(
        self, name: str, watch: Watch, workspace: Workspace, now: datetime, report: Report
    ) -> AsyncIterator[Alert]:
        """What the watch's checks find; one that cannot be made keeps no other from being made."""
        checks = WatchChecks(name, watch, Measures(watch, workspace.warehouse, timeout_seconds=QUERY_SECONDS), now)
        for check, found in alerts_of(watch, checks).items():
            report.checked += 1
            try:
                async for alert in found:
                    yield alert
            except (InvalidRequest, NotFound, PermissionDenied, WorkspaceUnavailable) as error:
                report.faults.append(Fault(watch=name, check=check, reason=error.detail))

    async def _write(self, alert: Alert, watch: Watch, store: AlertStore, run_id: str, report: Report) -> None:
        if not await store.was_quiet(alert, watch.quiet * watch.bucket_seconds):
            report.known += 1
        elif len(report.alerts) >= self.options.max_alerts:
            report.left_out += 1
        elif await store.write(alert, run_id=run_id, now=datetime.now(UTC)):
            report.alerts.append(alert)
        else:
            report.known += 1

    async def _tell(self, store: AlertStore, run_id: str, context: AgentContext, report: Report) -> None:
        """Everybody, of this run's alerts and of those that a run left behind which ended in between. What could not
        be sent is tried again by the next run."""
        now = datetime.now(UTC)
        untold = await store.untold(run_id=run_id, now=now)
        if context.scope.guard is not None:
            for host in self._notifier.destinations:
                await context.scope.guard.require("send", host)
        report.not_notified = await self._notifier.tell(untold)
        for fault in report.not_notified:
            context.degrade(fault)
        if not report.not_notified:
            await store.note_told(untold, now=now)

    async def _proposed(self, alert: Alert, context: AgentContext) -> AsyncIterator[Outcome]:
        """Ask a person, and do it when they approve. Asked once for an alert, since only the run that wrote it asks."""
        proposal = proposals_of(self.options.watches[alert.watch]).get(alert.check)
        if proposal is None:
            return
        data = filled(proposal.data, alert)
        outcome = Outcome(alert_id=alert.alert_id, action="done")
        try:
            await context.require_approval(
                proposal.description,
                details={"alert": alert.explanation, "alert_id": alert.alert_id, "agent": proposal.agent, "data": data},
                timeout_seconds=self.options.approval_seconds,
            )
            answer = await context.call(proposal.agent, data)
            outcome.detail = str(answer.result)[:500]
        except ApprovalRequired as error:
            outcome.action, outcome.detail = "nobody_asked", error.detail
        except ApprovalRefused as error:
            outcome.action, outcome.detail = "refused", error.detail
        except LakemeshError as error:
            outcome.action, outcome.detail = "failed", error.detail
        yield outcome


def run_of(context: AgentContext) -> str:
    """The same in all attempts of a durable run."""
    root = context.scope.root
    return root.durable.run_id if root.durable is not None else root.execution_id


def alerts_of(watch: Watch, checks: WatchChecks) -> dict[str, AsyncIterator[Alert]]:
    found: dict[str, AsyncIterator[Alert]] = {}
    if watch.volume is not None:
        found["volume"] = checks.series("volume", watch.volume, "volume")
    found |= {name: checks.series(name, check) for name, check in watch.series.items()}
    if watch.freshness is not None:
        found["freshness"] = checks.freshness("freshness", watch.freshness)
    found |= {name: checks.distribution(name, check) for name, check in watch.distribution.items()}
    return found | {name: checks.rule(name, check) for name, check in watch.rules.items()}


def proposals_of(watch: Watch) -> dict[str, Proposal]:
    """By the names of the checks that have one."""
    checks: dict[str, Check | None] = {"volume": watch.volume, "freshness": watch.freshness}
    checks |= {**watch.series, **watch.distribution, **watch.rules}
    return {name: check.proposal for name, check in checks.items() if check is not None and check.proposal is not None}


def filled(value: Any, alert: Alert) -> Any:
    """Texts at any depth with what the alert says in place of `{bucket_start}` and the like."""
    if isinstance(value, dict):
        return {key: filled(item, alert) for key, item in value.items()}
    if not isinstance(value, str):
        return value
    known = {
        "bucket_start": alert.bucket_start.isoformat(), "bucket_end": alert.bucket_end.isoformat(),
        "table": alert.table, "watch": alert.watch,
    }  # fmt: skip
    for name, text in known.items():
        value = value.replace(f"{{{name}}}", text)
    return value
