"""What the audit trail says of an execution: who ran what, how it ended, what was decided and which data it touched."""

from collections import Counter
from typing import Any

from lakemesh.errors import LakemeshError
from lakemesh.schemas import Identity
from lakemesh.scope import ExecutionScope
from lakemesh.telemetry import ExecutionRecord
from lakemesh.telemetry.audit_chain import AuditRecord


def record_of_execution(record: ExecutionRecord, scope: ExecutionScope) -> AuditRecord:
    """Of one that ended; nested ones are the calls of tools and agents."""
    return AuditRecord(
        time_ns=record.timestamp_ns,
        kind="execution",
        actor=record.user,
        action="call",
        subject=record.agent_id,
        outcome=record.error_code or "ok",
        door=record.door,
        execution_id=record.execution_id,
        trace_id=record.trace_id,
        details={name: value for name, value in details_of(record, scope).items() if value},
    )


def details_of(record: ExecutionRecord, scope: ExecutionScope) -> dict[str, Any]:
    decisions = Counter(scope.decisions)
    accesses: dict[tuple[str, str], int] = {}
    for kind, name, rows in scope.accesses:
        accesses[kind, name] = accesses.get((kind, name), 0) + rows
    return {
        "parent": record.parent_execution_id,
        "session": record.session_id,
        "service": scope.identity.kind == "service",
        "decisions": [[*decision, count] for decision, count in decisions.items()],
        "data": [[kind, name, rows] for (kind, name), rows in accesses.items()],
        "origins": sorted(scope.origins),
        "models": sorted({use.model for use in record.model_uses}),
        "prompts": sorted({f"{use.name}_v{use.version}" for use in record.prompt_uses}),
        "findings": list(scope.findings),
        "rollout": [scope.variation.rollout, scope.variation.arm] if scope.variation is not None else None,
    }


def record_of_refusal(error: LakemeshError, record: ExecutionRecord, identity: Identity) -> AuditRecord:
    """Of a request that was refused before an agent ran."""
    return AuditRecord(
        time_ns=record.timestamp_ns,
        kind="refusal",
        actor=identity.user,
        action="call",
        subject=record.agent_id,
        outcome=error.code,
        door=record.door,
        execution_id=record.execution_id,
        trace_id=record.trace_id,
        rule=str(error.members.get("rule") or ""),
    )
