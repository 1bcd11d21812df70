-- Who runs for an idempotency key, and what came of it. `holder` names a claim, so that one which lapsed is nobody's to
-- end. `body` is null while it runs, and for an answer too long to be kept.
CREATE TABLE lakemesh.idempotency (
    owner text NOT NULL,
    agent text NOT NULL,
    key text NOT NULL,
    fingerprint bytea NOT NULL,
    holder uuid NOT NULL,
    expires_at timestamptz NOT NULL,
    execution_id text,
    trace_id text,
    body bytea,
    PRIMARY KEY (owner, agent, key)
);
CREATE INDEX idempotency_expires ON lakemesh.idempotency (expires_at);
