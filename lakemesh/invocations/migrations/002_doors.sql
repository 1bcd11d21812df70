-- Which door accepted it, and what that door wants to find again; agents are not given it. Events say when they came.
ALTER TABLE lakemesh.invocations
    ADD COLUMN door text NOT NULL DEFAULT 'invocation',
    ADD COLUMN request json;
ALTER TABLE lakemesh.invocation_events ADD COLUMN at timestamptz NOT NULL DEFAULT now();

-- Who is to be notified of a run, where, and how far that has come. `holder` is the worker that does it.
CREATE TABLE lakemesh.a2a_push (
    invocation bigint NOT NULL REFERENCES lakemesh.invocations ON DELETE CASCADE,
    id text NOT NULL,
    config json NOT NULL,
    holder uuid NOT NULL,
    sequence integer NOT NULL DEFAULT 0,
    done boolean NOT NULL DEFAULT false,
    added_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (invocation, id)
);
CREATE INDEX a2a_push_open ON lakemesh.a2a_push (holder) WHERE NOT done;
