-- A process that runs invocations. What a worker holds is void when its heartbeat is older than the lease.
CREATE TABLE lakemesh.workers (
    id uuid PRIMARY KEY,
    started_at timestamptz NOT NULL DEFAULT now(),
    heartbeat_at timestamptz NOT NULL DEFAULT now()
);

-- One accepted request. `number` orders them and is what other tables refer to; a caller's id is his own, so that one
-- user's choice of ids is nothing to another. `attempt` is the fencing token: a worker that was given up for dead
-- finds it changed, and writes nothing more. `events` is the sequence number of the last event.
CREATE TABLE lakemesh.invocations (
    number bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    owner text NOT NULL,
    id uuid NOT NULL,
    identity json NOT NULL,
    agent_name text NOT NULL,
    session_id text,
    input json NOT NULL,
    metadata json NOT NULL,
    timeout_seconds double precision,
    digest bytea NOT NULL,
    status text NOT NULL CHECK (status IN ('queued', 'running', 'waiting', 'completed', 'failed', 'cancelled')),
    background boolean NOT NULL,
    attempt integer NOT NULL DEFAULT 0,
    worker uuid,
    available_at timestamptz NOT NULL DEFAULT now(),
    cancel_requested boolean NOT NULL DEFAULT false,
    checkpoint json,
    events integer NOT NULL DEFAULT 0,
    execution_id text,
    output json,
    error json,
    dead boolean NOT NULL DEFAULT false,
    created_at timestamptz NOT NULL DEFAULT now(),
    started_at timestamptz,
    ended_at timestamptz,
    UNIQUE (owner, id)
);
CREATE INDEX invocations_queued ON lakemesh.invocations (owner, number) WHERE status = 'queued';
CREATE INDEX invocations_running ON lakemesh.invocations (worker) WHERE status = 'running';
CREATE INDEX invocations_waiting ON lakemesh.invocations (number) WHERE status = 'waiting';
CREATE INDEX invocations_of_owner ON lakemesh.invocations (owner, number DESC);
CREATE INDEX invocations_ended ON lakemesh.invocations (ended_at) WHERE ended_at IS NOT NULL;

CREATE TABLE lakemesh.invocation_events (
    invocation bigint NOT NULL REFERENCES lakemesh.invocations ON DELETE CASCADE,
    sequence integer NOT NULL,
    attempt integer NOT NULL,
    type text NOT NULL,
    event json NOT NULL,
    PRIMARY KEY (invocation, sequence)
);

-- What a run asked of a person. An agent that runs again gets the answers it had: `key` is made of who asks what, and
-- of how often it was asked before.
CREATE TABLE lakemesh.invocation_questions (
    invocation bigint NOT NULL REFERENCES lakemesh.invocations ON DELETE CASCADE,
    key text NOT NULL,
    question_id text NOT NULL,
    message text NOT NULL,
    schema json NOT NULL,
    answer json,
    asked_at timestamptz NOT NULL DEFAULT now(),
    expires_at timestamptz NOT NULL,
    answered_at timestamptz,
    answered_by text,
    PRIMARY KEY (invocation, key)
);
