-- What operators do about events: jobs that send again or discard, and what they did it to. A row is open while nobody
-- sent it again or discarded it, or once what was sent again has come back: then the job it came back from (`died_in`,
-- `marked_in`) is the one that sent it last (`resent_in`), or a later one. Ids of jobs are UUIDv7 and sort by time.

-- The first event with the same key of the sender's: this one is handed to nobody.
ALTER TABLE event ADD COLUMN duplicate_of TEXT;
CREATE INDEX event_duplicate ON event (id) WHERE duplicate_of IS NOT NULL;

-- `error_group`: the error without the numbers and quoted values in it; `group_id` names it together with the consumer.
-- `history`: every failed attempt, as JSON.
ALTER TABLE dead_letter ADD COLUMN error_group TEXT NOT NULL DEFAULT '';
ALTER TABLE dead_letter ADD COLUMN group_id TEXT NOT NULL DEFAULT '';
ALTER TABLE dead_letter ADD COLUMN history TEXT NOT NULL DEFAULT '[]';
ALTER TABLE dead_letter ADD COLUMN died_in TEXT;
ALTER TABLE dead_letter ADD COLUMN resent_in TEXT;
ALTER TABLE dead_letter ADD COLUMN discarded_in TEXT;
CREATE INDEX dead_letter_group ON dead_letter (group_id, event_id);

ALTER TABLE rejected ADD COLUMN resent_in TEXT;
ALTER TABLE rejected ADD COLUMN discarded_in TEXT;

ALTER TABLE unrouted ADD COLUMN marked_in TEXT;
ALTER TABLE unrouted ADD COLUMN resent_in TEXT;
ALTER TABLE unrouted ADD COLUMN discarded_in TEXT;

-- What an operator asked for, and how far it is: `progress` counts the rows gone through, `sent` those that were sent
-- again or discarded. `resume_after` is the key of the last row gone through. One console works on a job at a time:
-- `worker`, until `lease_until`.
CREATE TABLE job (
    id           TEXT   NOT NULL PRIMARY KEY,
    action       TEXT   NOT NULL, -- replay, retry, discard
    what         TEXT   NOT NULL, -- events, dead, rejected, unrouted
    filter       TEXT   NOT NULL, -- JSON
    options      TEXT   NOT NULL, -- JSON
    requested_by TEXT   NOT NULL,
    requested_at BIGINT NOT NULL,
    state        TEXT   NOT NULL, -- waiting, running, done, cancelled, failed
    total        BIGINT NOT NULL,
    progress     BIGINT NOT NULL,
    sent         BIGINT NOT NULL,
    resume_after TEXT   NOT NULL,
    trouble      TEXT   NOT NULL, -- what it waits for, or why it failed
    started_at   BIGINT,
    finished_at  BIGINT,
    worker       TEXT,
    lease_until  BIGINT
);
CREATE INDEX job_state ON job (state, id);

-- What each ingress says it has answered, by source and day (UTC) of receipt. `ingress`: one run of one process.
CREATE TABLE tally (
    ingress     TEXT   NOT NULL,
    source      TEXT   NOT NULL,
    day         TEXT   NOT NULL,
    accepted    BIGINT NOT NULL,
    rejected    BIGINT NOT NULL,
    reported_at BIGINT NOT NULL,
    PRIMARY KEY (ingress, source, day)
);
CREATE INDEX tally_day ON tally (day, source);
