-- A conversation of one user with one agent: the id is the caller's choice, so it means nothing without the other two.
-- `version` is the number of the newest message.
CREATE TABLE lakemesh.sessions (
    agent text NOT NULL,
    owner text NOT NULL,
    id text NOT NULL,
    version bigint NOT NULL DEFAULT 0,
    created_at timestamptz NOT NULL DEFAULT now(),
    used_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (owner, agent, id)
);
CREATE INDEX sessions_used ON lakemesh.sessions (used_at);

CREATE TABLE lakemesh.session_messages (
    owner text NOT NULL,
    agent text NOT NULL,
    session_id text NOT NULL,
    number bigint NOT NULL,
    message json NOT NULL,
    created_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (owner, agent, session_id, number),
    FOREIGN KEY (owner, agent, session_id) REFERENCES lakemesh.sessions ON DELETE CASCADE
);
