-- What each consumer has already had its effect with: one row per consumer and event, written in the transaction of
-- the effect. Times are microseconds since 1970, UTC.
CREATE TABLE inbox (
    event_id   TEXT   NOT NULL,
    consumer   TEXT   NOT NULL,
    handled_at BIGINT NOT NULL,
    PRIMARY KEY (event_id, consumer)
);

-- One row, written to find out whether the database takes writes.
CREATE TABLE writable (
    checked_at BIGINT NOT NULL
);
INSERT INTO writable (checked_at) VALUES (0);
