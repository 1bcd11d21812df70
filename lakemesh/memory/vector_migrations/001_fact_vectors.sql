CREATE EXTENSION IF NOT EXISTS vector;

-- Vectors of one embedding model compare; of another model they are nothing, so it is named with each.
CREATE TABLE lakemesh.fact_vectors (
    fact uuid PRIMARY KEY REFERENCES lakemesh.facts ON DELETE CASCADE,
    model text NOT NULL,
    vector vector NOT NULL
);
