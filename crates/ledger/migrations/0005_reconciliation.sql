-- Reconciliations: jobs that compare the two sides of a day's books, a range of ids at a time.

-- The time zone that a tally's day is of. Releases before this column counted days of UTC.
ALTER TABLE tally ADD COLUMN zone TEXT NOT NULL DEFAULT 'UTC';

-- How far a reconciliation is and what it has counted, as JSON: where another console goes on with it. Once its job is
-- done, its result.
CREATE TABLE reconciliation (
    job_id TEXT NOT NULL PRIMARY KEY,
    walk   TEXT NOT NULL
);

-- What does not agree, event by event. A day is gone through again where it does not balance: a row counts in its own
-- `pass`; one with `sent_at` was sent to the consumer that lacked it, and stays on record.
CREATE TABLE difference (
    job_id   TEXT   NOT NULL,
    id       TEXT   NOT NULL,
    pass     BIGINT NOT NULL,
    kind     TEXT   NOT NULL,
    source   TEXT,
    event_id TEXT,
    consumer TEXT,
    detail   TEXT   NOT NULL,
    sent_at  BIGINT,
    PRIMARY KEY (job_id, id)
);
