"""What a person is asked to approve, and who may decide."""

from collections.abc import Mapping
from typing import Any

from pydantic_core import to_json, to_jsonable_python

from lakemesh.config.approvals import ApprovalsConfig
from lakemesh.errors import InvalidRequest, PermissionDenied, Unavailable
from lakemesh.governance.guard import agents_of
from lakemesh.schemas import ApprovalRequest, Approvers, Identity, Proposal
from lakemesh.scope import ExecutionScope

MAX_DETAILS_BYTES = 65_536
MAX_DIFF_CHARACTERS = 65_536


def request_of(scope: ExecutionScope, proposal: Proposal, config: ApprovalsConfig) -> ApprovalRequest:
    """The proposal with what its execution knows, and with what configuration says where it says nothing. Raises
    `InvalidRequest` for one that is too large to be looked at."""
    details = to_jsonable_python(dict(proposal.details), fallback=str, inf_nan_mode="null")
    if len(to_json(details)) > MAX_DETAILS_BYTES or len(proposal.diff or "") > MAX_DIFF_CHARACTERS:
        raise InvalidRequest("What is to be approved is too large to be looked at: 64 KB of details, 64 KB of diff.")
    kept = config.approvers
    approvers = proposal.approvers or Approvers(users=tuple(kept.users), groups=tuple(kept.groups))
    return ApprovalRequest(
        agent_name=scope.agent_name,
        execution_id=scope.root.execution_id,
        proposal={
            "action": proposal.action,
            "details": details,
            "diff": proposal.diff,
            "cost_usd": proposal.cost_usd,
            "rule": proposal.rule,
            "agents": list(agents_of(scope)),
            "door": scope.door,
            "origins": sorted(scope.origins),
        },
        approvers=approvers,
        four_eyes=config.four_eyes,
        timeout_seconds=proposal.timeout_seconds or config.timeout_seconds,
    )


def may_decide(approvers: Approvers, identity: Identity, *, is_operator: bool) -> bool:
    """Whether this caller is one of those who may. Raises `Unavailable` while nobody knows."""
    if not approvers.users and not approvers.groups:
        return is_operator
    if names_of(identity) & set(approvers.users) or identity.groups & set(approvers.groups):
        return True
    if approvers.groups and identity.groups_unknown:
        raise Unavailable("Your groups cannot be looked up now; try again.", retry_after_seconds=5.0)
    return False


def require_other(asked_by: Identity, identity: Identity) -> None:
    """Four eyes: raises `PermissionDenied` for who asked."""
    if names_of(asked_by) & names_of(identity):
        raise PermissionDenied("Who asked may not approve: another person has to decide (four eyes).")


def names_of(identity: Identity) -> set[str]:
    return {name for name in (identity.user, identity.email) if name}


def details_of(proposal: Mapping[str, Any]) -> dict[str, Any]:
    """What the audit trail says of a proposal: no contents."""
    return {name: proposal.get(name) for name in ("rule", "cost_usd", "agents", "origins") if proposal.get(name)}
