-- The record of every event. The tables stand alone and are joined when read: an event, its mark and its dead letters
-- arrive in any order. Times are microseconds since 1970, UTC; ids are UUIDv7 and sort by receipt. Bodies are the last
-- columns, so that SQLite reads the others without them.

-- Every accepted event. `consumers`: our consumers that take it, names with a space between.
CREATE TABLE event (
    id           TEXT   NOT NULL PRIMARY KEY,
    source       TEXT   NOT NULL,
    provider     TEXT   NOT NULL,
    topic        TEXT   NOT NULL,
    subject      TEXT,
    received_at  BIGINT NOT NULL,
    consumers    TEXT   NOT NULL,
    content_type TEXT   NOT NULL,
    size         BIGINT NOT NULL,
    traceparent  TEXT,
    replay_of    TEXT,
    repaired     BIGINT NOT NULL,
    headers      TEXT   NOT NULL,
    body         BLOB   NOT NULL
);
CREATE INDEX event_source ON event (source, id);
CREATE INDEX event_provider ON event (provider, id);
CREATE INDEX event_topic ON event (topic, id);
CREATE INDEX event_subject ON event (subject, id);

-- Events whose topic no queue is bound to.
CREATE TABLE unrouted (
    event_id    TEXT   NOT NULL PRIMARY KEY,
    source      TEXT   NOT NULL,
    provider    TEXT   NOT NULL,
    topic       TEXT   NOT NULL,
    subject     TEXT,
    received_at BIGINT NOT NULL,
    marked_at   BIGINT NOT NULL
);
CREATE INDEX unrouted_source ON unrouted (source, event_id);
CREATE INDEX unrouted_provider ON unrouted (provider, event_id);
CREATE INDEX unrouted_topic ON unrouted (topic, event_id);

-- Authenticated bodies that could not be used.
CREATE TABLE rejected (
    id           TEXT   NOT NULL PRIMARY KEY,
    source       TEXT,
    provider     TEXT,
    received_at  BIGINT NOT NULL,
    cause        TEXT   NOT NULL,
    content_type TEXT   NOT NULL,
    size         BIGINT NOT NULL,
    headers      TEXT   NOT NULL,
    body         BLOB   NOT NULL
);
CREATE INDEX rejected_source ON rejected (source, id);
CREATE INDEX rejected_provider ON rejected (provider, id);

-- What each consumer gave up, whole: it need not be an event.
CREATE TABLE dead_letter (
    event_id        TEXT   NOT NULL,
    consumer        TEXT   NOT NULL,
    source          TEXT,
    provider        TEXT,
    topic           TEXT   NOT NULL,
    attempts        BIGINT NOT NULL,
    error           TEXT   NOT NULL,
    first_failed_at BIGINT NOT NULL,
    failed_at       BIGINT NOT NULL,
    content_type    TEXT   NOT NULL,
    headers         TEXT   NOT NULL,
    body            BLOB   NOT NULL,
    PRIMARY KEY (event_id, consumer)
);
CREATE INDEX dead_letter_consumer ON dead_letter (consumer, event_id);
CREATE INDEX dead_letter_source ON dead_letter (source, event_id, consumer);
CREATE INDEX dead_letter_provider ON dead_letter (provider, event_id, consumer);

-- Who may still owe an event its effect: a superset of what is pending, kept small by the sweep.
CREATE TABLE unsettled (
    event_id TEXT NOT NULL,
    consumer TEXT NOT NULL,
    PRIMARY KEY (event_id, consumer)
);
