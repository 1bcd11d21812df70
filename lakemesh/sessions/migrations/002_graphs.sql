-- What LangGraph keeps of a graph's runs (its checkpointer) and across them (its store). A thread's id is the caller's
-- choice, so it means nothing without its owner and agent.
CREATE TABLE lakemesh.graph_checkpoints (
    owner text NOT NULL,
    agent text NOT NULL,
    thread_id text NOT NULL,
    namespace text NOT NULL,
    checkpoint_id text NOT NULL,
    parent_id text,
    kind text NOT NULL,
    checkpoint bytea NOT NULL,
    metadata jsonb NOT NULL,
    created_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (owner, agent, thread_id, namespace, checkpoint_id)
);

-- What the tasks of one step wrote, before the step's own checkpoint: `place` is LangGraph's index, negative for what a
-- task writes at most once (an error, an interrupt).
CREATE TABLE lakemesh.graph_writes (
    owner text NOT NULL,
    agent text NOT NULL,
    thread_id text NOT NULL,
    namespace text NOT NULL,
    checkpoint_id text NOT NULL,
    task_path text NOT NULL,
    task_id text NOT NULL,
    place integer NOT NULL,
    channel text NOT NULL,
    kind text NOT NULL,
    value bytea NOT NULL,
    PRIMARY KEY (owner, agent, thread_id, namespace, checkpoint_id, task_id, place)
);

CREATE TABLE lakemesh.graph_items (
    owner text NOT NULL,
    agent text NOT NULL,
    namespace text[] NOT NULL,
    key text NOT NULL,
    value json NOT NULL,
    vectors json,
    created_at timestamptz NOT NULL DEFAULT now(),
    updated_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (owner, agent, namespace, key)
);

-- A turn that was put off while the database was away is delivered once, also when the first delivery's answer is lost:
-- its first message carries its name.
ALTER TABLE lakemesh.session_messages ADD COLUMN turn uuid;
CREATE UNIQUE INDEX session_messages_turn ON lakemesh.session_messages (owner, turn) WHERE turn IS NOT NULL;

-- What stands in place of a session's messages up to `up_to`: written when they no longer fit into an agent's budget.
CREATE TABLE lakemesh.session_summaries (
    owner text NOT NULL,
    agent text NOT NULL,
    session_id text NOT NULL,
    up_to bigint NOT NULL,
    summary text NOT NULL,
    written_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (owner, agent, session_id),
    FOREIGN KEY (owner, agent, session_id) REFERENCES lakemesh.sessions ON DELETE CASCADE
);
