-- What a run wants a person to approve, and what became of it. The run waits for a question of its own; who decides
-- answers that.
CREATE TABLE lakemesh.approvals (
    id uuid PRIMARY KEY,
    invocation bigint NOT NULL REFERENCES lakemesh.invocations ON DELETE CASCADE,
    question_id text NOT NULL,
    agent_name text NOT NULL,
    execution_id text NOT NULL,
    proposal json NOT NULL,
    approver_users text[] NOT NULL,
    approver_groups text[] NOT NULL,
    four_eyes boolean NOT NULL,
    asked_at timestamptz NOT NULL DEFAULT now(),
    expires_at timestamptz NOT NULL,
    decision text CHECK (decision IN ('approved', 'refused')),
    decided_by text,
    decided_at timestamptz,
    comment text NOT NULL DEFAULT '',
    told_at timestamptz,
    tell_after timestamptz NOT NULL DEFAULT now(),
    UNIQUE (invocation, question_id)
);
CREATE INDEX approvals_open ON lakemesh.approvals (asked_at) WHERE decision IS NULL;
CREATE INDEX approvals_to_tell ON lakemesh.approvals (tell_after) WHERE told_at IS NULL;
