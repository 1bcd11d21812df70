"""Runs that wait until a person has approved."""

from collections.abc import Callable
from typing import Any

from lakemesh.config.approvals import ApprovalsConfig
from lakemesh.engine.asks import Asks
from lakemesh.errors import ApprovalRefused, DeadlineExceeded
from lakemesh.governance.approvals import details_of, request_of
from lakemesh.governance.audit import approval_record
from lakemesh.governance.guard import NobodyApproves
from lakemesh.schemas import Approval, ApprovalRequest, Proposal
from lakemesh.scope import ExecutionScope
from lakemesh.telemetry.audit_chain import AuditRecord


class RunApprovals(NobodyApproves):
    """`lakemesh.governance.guard.Approvals`, in durable runs. `audit` is given every step."""

    def __init__(self, asks: Asks, config: ApprovalsConfig, audit: Callable[[AuditRecord], None]) -> None:
        self._asks = asks
        self._audit = audit
        self.configure(config)

    def configure(self, config: ApprovalsConfig) -> None:
        self._config = config

    async def obtain(self, scope: ExecutionScope, proposal: Proposal) -> Approval:
        durable = scope.root.durable
        if durable is None:
            return await super().obtain(scope, proposal)
        request = request_of(scope, proposal, self._config)

        def asked(approval_id: str) -> None:
            self._note(scope, request, "requested", approval_id)

        try:
            waiting = durable.approve(request, asked)
            verdict = await self._asks.outlast(waiting, scope, request.timeout_seconds)
        except DeadlineExceeded:
            self._note(scope, request, "expired", "")
            raise ApprovalRefused(f"Nobody approved {proposal.action!r:.200} in time.", rule=proposal.rule) from None
        if not verdict["approved"]:
            said = f": {verdict['comment']}" if verdict["comment"] else "."
            raise ApprovalRefused(
                f"{verdict['by']} refused {proposal.action!r:.200}{said}",
                rule=proposal.rule,
                approval_id=verdict["id"],
            )
        return Approval(id=verdict["id"], approved_by=verdict["by"], comment=verdict["comment"])

    def _note(self, scope: ExecutionScope, request: ApprovalRequest, outcome: str, approval_id: str) -> None:
        details: dict[str, Any] = {**details_of(request.proposal), "approval": approval_id}
        self._audit(
            approval_record(
                actor=scope.identity.user,
                subject=request.proposal["action"],
                outcome=outcome,
                door=scope.door,
                execution_id=request.execution_id,
                details=details,
            )
        )
