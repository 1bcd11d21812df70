-- What is known of a user for longer than a session. `slot` says what a fact is about (`name`, `home`, `likes tea`):
-- two facts of one slot with different values contradict each other, and the later one holds. A fact that no longer
-- holds keeps its row, with the time it ended, until it is forgotten. `provenance` lists who said it, when and where.
CREATE TABLE lakemesh.facts (
    id uuid PRIMARY KEY,
    owner text NOT NULL,
    namespace text NOT NULL,
    kind text NOT NULL CHECK (kind IN ('fact', 'preference')),
    slot text,
    value text,
    text text NOT NULL,
    confidence double precision NOT NULL,
    provenance json NOT NULL,
    valid_from timestamptz NOT NULL DEFAULT now(),
    valid_until timestamptz,
    superseded_by uuid,
    confirmed_at timestamptz NOT NULL DEFAULT now(),
    created_at timestamptz NOT NULL DEFAULT now()
);
CREATE INDEX facts_of_owner ON lakemesh.facts (owner, namespace, slot);

-- Turns to learn from, off the request path: claimed for a while, and deleted with what was learned.
CREATE TABLE lakemesh.fact_turns (
    number bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    owner text NOT NULL,
    namespace text NOT NULL,
    provenance json NOT NULL,
    texts json NOT NULL,
    attempts integer NOT NULL DEFAULT 0,
    available_at timestamptz NOT NULL DEFAULT now()
);
CREATE INDEX fact_turns_available ON lakemesh.fact_turns (available_at);

-- What one replica at a time does: whose turn it is and until when, when it was last done and what came of it.
CREATE TABLE lakemesh.leases (
    name text PRIMARY KEY,
    holder uuid,
    until timestamptz NOT NULL DEFAULT now(),
    done_at timestamptz,
    figures json
);
