-- How many requests of an identity all replicas took in a minute, counted from 1970.
CREATE TABLE lakemesh.rate_counts (
    owner text NOT NULL,
    minute bigint NOT NULL,
    count bigint NOT NULL,
    PRIMARY KEY (owner, minute)
);
CREATE INDEX rate_counts_minute ON lakemesh.rate_counts (minute);
