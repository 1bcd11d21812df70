"""What the audit trail says of an execution: who ran what, how it ended, what was decided and which data it touched."""

from typing import Any

from lakemesh.errors import LakemeshError
from lakemesh.schemas import Identity
from lakemesh.scope import ExecutionScope
from lakemesh.telemetry import ExecutionRecord
from lakemesh.telemetry.audit_chain import AuditRecord


def record_of_execution(record: ExecutionRecord, scope: ExecutionScope) -> AuditRecord:
    """Of one that ended; nested ones are the calls of tools and agents."""
    return AuditRecord(
        record.timestamp_ns,
        "execution",
        record.user,
        "call",
        record.agent_id,
        record.error_code or "ok",
        record.door,
        record.execution_id,
        record.trace_id,
        "",
        details_of(record, scope),
    )


def details_of(record: ExecutionRecord, scope: ExecutionScope) -> dict[str, Any]:
    """What there is to tell beside the members: mostly nothing, and then it costs nothing."""
    details: dict[str, Any] = {}
    if record.parent_execution_id is not None:
        details["parent"] = record.parent_execution_id
    if record.session_id is not None:
        details["session"] = record.session_id
    if scope.identity.kind == "service":
        details["service"] = True
    if scope.decisions:
        details["decisions"] = [
            [*decision, scope.decisions.count(decision)] for decision in dict.fromkeys(scope.decisions)
        ]
    if scope.accesses:
        details["data"] = data_of(scope)
    if scope.origins:
        details["origins"] = sorted(scope.origins)
    if record.model_uses:
        details["models"] = sorted({use.model for use in record.model_uses})
    if record.prompt_uses:
        details["prompts"] = sorted({f"{use.name}_v{use.version}" for use in record.prompt_uses})
    if scope.findings:
        details["findings"] = list(scope.findings)
    if scope.variation is not None:
        details["rollout"] = [scope.variation.rollout, scope.variation.arm]
    return details


def data_of(scope: ExecutionScope) -> list[list[Any]]:
    """Each thing that was read or written, with the rows of all times together."""
    accesses: dict[tuple[str, str], int] = {}
    for kind, name, rows in scope.accesses:
        accesses[kind, name] = accesses.get((kind, name), 0) + rows
    return [[kind, name, rows] for (kind, name), rows in accesses.items()]


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
