-- The units (users or sessions, as digests) that had a bad call in a stage of a rollout, once for each criterion.
CREATE TABLE lakemesh.rollout_bad_units (
    rollout text NOT NULL,
    stage text NOT NULL,
    criterion text NOT NULL,
    unit bigint NOT NULL,
    candidate boolean NOT NULL,
    at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (rollout, stage, criterion, unit)
);
CREATE INDEX rollout_bad_units_at ON lakemesh.rollout_bad_units (at);
-- Stages that were taken back, and why: for all replicas.
CREATE TABLE lakemesh.rollout_aborts (
    rollout text NOT NULL,
    stage text NOT NULL,
    criterion text NOT NULL,
    why text NOT NULL,
    at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (rollout, stage)
);
