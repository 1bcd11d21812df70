-- Runs that an action with bounds on concurrency began, until they end.
CREATE TABLE lakemesh.action_runs (
    token text PRIMARY KEY,
    tool text NOT NULL,
    owner text NOT NULL,
    run_id text,
    taken_at timestamptz NOT NULL DEFAULT now()
);
CREATE INDEX action_runs_tool ON lakemesh.action_runs (tool, taken_at);
