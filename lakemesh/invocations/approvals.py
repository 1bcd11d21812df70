"""Approvals that runs wait for: what there is to decide, and deciding it, once."""

import datetime as dt
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal
from uuid import UUID

from psycopg.rows import class_row

from lakemesh.errors import Conflict, NotFound, PermissionDenied
from lakemesh.governance.approvals import details_of, may_decide, require_other
from lakemesh.governance.audit import approval_record
from lakemesh.invocations.statements import APPROVALS, CLAIM_UNTOLD, DECIDE, TOLD
from lakemesh.invocations.store import text
from lakemesh.lakehouse.database import Database
from lakemesh.schemas import Approvers, Identity
from lakemesh.telemetry.audit_chain import AuditRecord

ApprovalStatus = Literal["pending", "approved", "refused", "expired", "withdrawn"]
PAGE = 200
APPROVALS_TOPIC = "approvals"
MAX_COMMENT = 2_000


@dataclass(frozen=True, slots=True, kw_only=True)
class PendingApproval:
    """One, as it stands. `withdrawn` when its run ended without it."""

    id: UUID
    question_id: str
    agent_name: str
    execution_id: str
    proposal: Mapping[str, Any]
    approver_users: list[str]
    approver_groups: list[str]
    four_eyes: bool
    asked_at: dt.datetime
    expires_at: dt.datetime
    decision: str | None
    decided_by: str | None
    decided_at: dt.datetime | None
    comment: str
    invocation_id: UUID
    asked_by: str
    asked_by_email: str | None
    input: Any
    status: ApprovalStatus

    @property
    def approvers(self) -> Approvers:
        return Approvers(users=tuple(self.approver_users), groups=tuple(self.approver_groups))

    @property
    def asker(self) -> Identity:
        return Identity(user=self.asked_by, email=self.asked_by_email)

    def to_dict(self) -> dict[str, Any]:
        """What who may see it sees."""
        return {
            "id": str(self.id),
            "status": self.status,
            **self.proposal,
            "agent_name": self.agent_name,
            "asked_by": self.asked_by,
            "input": self.input,
            "approvers": {"users": self.approver_users, "groups": self.approver_groups},
            "four_eyes": self.four_eyes,
            "invocation_id": str(self.invocation_id),
            "execution_id": self.execution_id,
            "asked_at": self.asked_at,
            "expires_at": self.expires_at,
            "decided_by": self.decided_by,
            "decided_at": self.decided_at,
            "comment": self.comment,
        }


class ApprovalDesk:
    """Where approvals are looked at and decided, on any replica. Every method raises `DatabaseUnavailable`."""

    def __init__(self, database: Database, audit: Callable[[AuditRecord], None]) -> None:
        self._database = database
        self._audit = audit

    async def find(self, approval_id: UUID, identity: Identity, *, is_operator: bool) -> PendingApproval:
        """Raises `NotFound`, also when it is none of the caller's business."""
        found = await self._fetch("WHERE approval.id = %(id)s", {"id": approval_id})
        if not found or not is_concerned(found[0], identity, is_operator):
            raise not_found(approval_id)
        return found[0]

    async def page(
        self, identity: Identity, *, is_operator: bool, status: ApprovalStatus | None = None
    ) -> list[PendingApproval]:
        """Those the caller may decide on, or asked for; the newest first, open ones before the others."""
        condition = "WHERE %(is_operator)s OR run.owner = %(user)s OR approver_users && %(names)s"
        condition += " OR approver_groups && %(groups)s ORDER BY decision IS NOT NULL, asked_at DESC LIMIT %(limit)s"
        values = {
            "is_operator": is_operator,
            "user": identity.user,
            "names": [name for name in (identity.user, identity.email) if name],
            "groups": sorted(identity.groups),
            "limit": PAGE,
        }
        found = await self._fetch(condition, values)
        return [one for one in found if status is None or one.status == status]

    async def decide(
        self, approval_id: UUID, identity: Identity, *, approved: bool, comment: str, is_operator: bool, door: str
    ) -> PendingApproval:
        """It goes as this caller says, on whichever replica the run waits. Raises `NotFound`, `PermissionDenied` for
        who may not decide, and `Conflict` when it was decided, or is over."""
        found = await self.find(approval_id, identity, is_operator=is_operator)
        require_may_decide(found, identity, approved=approved, is_operator=is_operator)
        comment = comment[:MAX_COMMENT]
        outcome = "approved" if approved else "refused"
        verdict = {"id": str(found.id), "approved": approved, "by": identity.user, "comment": comment}
        values = {
            "id": approval_id,
            "decision": outcome,
            "user": identity.user,
            "comment": comment,
            "answer": text(verdict),
            "event": text({"question_id": found.question_id, "said": None}),
        }
        if not await self._database.fetch(DECIDE, values):
            now = await self.find(approval_id, identity, is_operator=is_operator)
            by = f" by {now.decided_by}" if now.decided_by else ""
            raise Conflict(f"There is nothing to decide any longer: it is {now.status}{by}.", status_now=now.status)
        self._audit(
            approval_record(
                actor=identity.user,
                subject=found.proposal["action"],
                outcome=outcome,
                door=door,
                execution_id=found.execution_id,
                details={**details_of(found.proposal), "approval": str(found.id), "asked_by": found.asked_by},
            )
        )
        return await self.find(approval_id, identity, is_operator=is_operator)

    async def of_question(self, invocation_number: int, question_id: str) -> PendingApproval | None:
        """The approval that a run's question stands for, if it is one."""
        condition = "WHERE approval.invocation = %(number)s AND approval.question_id = %(question_id)s"
        found = await self._fetch(condition, {"number": invocation_number, "question_id": question_id})
        return found[0] if found else None

    async def claim_untold(self) -> list[PendingApproval]:
        """Some that nobody was told of yet; they are this caller's to tell for a minute."""
        async with (
            self._database.connection() as connection,
            connection.cursor(row_factory=class_row(PendingApproval)) as rows,
        ):
            return await (await rows.execute(CLAIM_UNTOLD.encode())).fetchall()

    async def note_told(self, approval_id: UUID) -> None:
        await self._database.execute(TOLD, (approval_id,))

    async def _fetch(self, condition: str, values: Mapping[str, Any]) -> list[PendingApproval]:
        async with (
            self._database.connection() as connection,
            connection.cursor(row_factory=class_row(PendingApproval)) as rows,
        ):
            return await (await rows.execute(f"{APPROVALS} {condition}".encode(), values)).fetchall()


def is_concerned(found: PendingApproval, identity: Identity, is_operator: bool) -> bool:
    """Whether it is the caller's to see: who asked, who may decide, and operators."""
    return (
        is_operator or found.asked_by == identity.user or may_decide(found.approvers, identity, is_operator=is_operator)
    )


def require_may_decide(found: PendingApproval, identity: Identity, *, approved: bool, is_operator: bool) -> None:
    """Raises `PermissionDenied`. Who asked may always refuse what they asked for."""
    asked = found.asked_by == identity.user
    if asked and not approved:
        return
    if found.four_eyes and approved:
        require_other(found.asker, identity)
    if not may_decide(found.approvers, identity, is_operator=is_operator) and not (asked and not found.four_eyes):
        raise PermissionDenied("You are not one of those who may decide on this.")


def not_found(approval_id: UUID) -> NotFound:
    return NotFound(f"There is no approval {approval_id} for you.")
