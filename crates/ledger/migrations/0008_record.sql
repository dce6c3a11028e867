-- The record in less space. Ids of events are 16 bytes; by hand: `hex(id)` in SQLite, the views in PostgreSQL. What events
-- have in common, source, provider and topic, is a row of `origins` (above), and one index finds them by each.
INSERT INTO origins (source, provider, topic)
SELECT source, provider, topic FROM event UNION SELECT source, provider, topic FROM unrouted;

-- Every accepted event. `traceparent` is empty where it is the one made from the id. The length of the body is its size.
CREATE TABLE events (
    received_at  BIGINT   NOT NULL,
    held_until   BIGINT,
    origin       INTEGER  NOT NULL,
    repaired     SMALLINT NOT NULL,
    id           BLOB     NOT NULL PRIMARY KEY CHECK (length(id) = 16),
    subject      TEXT,
    consumers    TEXT     NOT NULL,
    content_type TEXT     NOT NULL,
    traceparent  TEXT,
    replay_of    BLOB,
    duplicate_of BLOB,
    headers      TEXT     NOT NULL,
    body         BLOB     NOT NULL
);
INSERT INTO events (received_at, held_until, origin, repaired, id, subject, consumers, content_type, traceparent,
                    replay_of, duplicate_of, headers, body)
SELECT e.received_at, e.held_until, o.id, e.repaired, unhex(replace(e.id, '-', '')), e.subject, e.consumers,
       e.content_type,
       CASE WHEN e.traceparent = '00-' || replace(e.id, '-', '') || '-' || substr(replace(e.id, '-', ''), 17) || '-01'
            THEN '' ELSE e.traceparent END,
       unhex(replace(e.replay_of, '-', '')), unhex(replace(e.duplicate_of, '-', '')), e.headers, e.body
FROM event e JOIN origins o ON o.source = e.source AND o.provider = e.provider AND o.topic = e.topic;
CREATE INDEX events_origin ON events (origin, id);
CREATE INDEX events_subject ON events (subject, id) WHERE subject IS NOT NULL;
CREATE INDEX events_duplicate ON events (id) WHERE duplicate_of IS NOT NULL;
CREATE INDEX events_routed ON events (id) WHERE consumers = '';

-- Consumers at which an event may be pending: a superset, kept small by the sweep.
CREATE TABLE unsettled_events (
    event_id BLOB NOT NULL CHECK (length(event_id) = 16),
    consumer TEXT NOT NULL,
    job      TEXT,
    PRIMARY KEY (event_id, consumer)
) WITHOUT ROWID;
INSERT INTO unsettled_events (event_id, consumer, job)
SELECT unhex(replace(event_id, '-', '')), consumer, job FROM unsettled;
CREATE INDEX unsettled_events_job ON unsettled_events (job) WHERE job IS NOT NULL;

-- Events whose topic no queue is bound to.
CREATE TABLE unrouted_events (
    received_at  BIGINT  NOT NULL,
    marked_at    BIGINT  NOT NULL,
    origin       INTEGER NOT NULL,
    event_id     BLOB    NOT NULL PRIMARY KEY CHECK (length(event_id) = 16),
    subject      TEXT,
    marked_in    TEXT,
    resent_in    TEXT,
    discarded_in TEXT
) WITHOUT ROWID;
INSERT INTO unrouted_events (received_at, marked_at, origin, event_id, subject, marked_in, resent_in, discarded_in)
SELECT u.received_at, u.marked_at, o.id, unhex(replace(u.event_id, '-', '')), u.subject, u.marked_in, u.resent_in,
       u.discarded_in
FROM unrouted u JOIN origins o ON o.source = u.source AND o.provider = u.provider AND o.topic = u.topic;
CREATE INDEX unrouted_events_origin ON unrouted_events (origin, event_id);
CREATE INDEX unrouted_events_marked_in ON unrouted_events (marked_in) WHERE marked_in IS NOT NULL;

-- Authenticated bodies that could not be used.
CREATE TABLE rejected_bodies (
    id           BLOB   NOT NULL PRIMARY KEY CHECK (length(id) = 16),
    source       TEXT,
    provider     TEXT,
    received_at  BIGINT NOT NULL,
    cause        TEXT   NOT NULL,
    content_type TEXT   NOT NULL,
    size         BIGINT NOT NULL,
    resent_in    TEXT,
    discarded_in TEXT,
    headers      TEXT   NOT NULL,
    body         BLOB   NOT NULL
);
INSERT INTO rejected_bodies (id, source, provider, received_at, cause, content_type, size, resent_in, discarded_in,
                             headers, body)
SELECT unhex(replace(id, '-', '')), source, provider, received_at, cause, content_type, size, resent_in, discarded_in,
       headers, body
FROM rejected;
CREATE INDEX rejected_bodies_source ON rejected_bodies (source, id);
CREATE INDEX rejected_bodies_provider ON rejected_bodies (provider, id);

-- What each consumer gave up, whole: it need not be an event.
CREATE TABLE dead_letters (
    event_id        BLOB   NOT NULL CHECK (length(event_id) = 16),
    consumer        TEXT   NOT NULL,
    source          TEXT,
    provider        TEXT,
    topic           TEXT   NOT NULL,
    attempts        BIGINT NOT NULL,
    error           TEXT   NOT NULL,
    error_group     TEXT   NOT NULL,
    group_id        TEXT   NOT NULL,
    history         TEXT   NOT NULL,
    first_failed_at BIGINT NOT NULL,
    failed_at       BIGINT NOT NULL,
    died_in         TEXT,
    resent_in       TEXT,
    discarded_in    TEXT,
    content_type    TEXT   NOT NULL,
    headers         TEXT   NOT NULL,
    body            BLOB   NOT NULL,
    PRIMARY KEY (event_id, consumer)
);
INSERT INTO dead_letters (event_id, consumer, source, provider, topic, attempts, error, error_group, group_id, history,
                          first_failed_at, failed_at, died_in, resent_in, discarded_in, content_type, headers, body)
SELECT unhex(replace(event_id, '-', '')), consumer, source, provider, topic, attempts, error, error_group, group_id,
       history, first_failed_at, failed_at, died_in, resent_in, discarded_in, content_type, headers, body
FROM dead_letter;
CREATE INDEX dead_letters_consumer ON dead_letters (consumer, event_id);
CREATE INDEX dead_letters_source ON dead_letters (source, event_id, consumer);
CREATE INDEX dead_letters_provider ON dead_letters (provider, event_id, consumer);
CREATE INDEX dead_letters_group ON dead_letters (group_id, event_id);
CREATE INDEX dead_letters_died_in ON dead_letters (died_in) WHERE died_in IS NOT NULL;

-- Jobs. A console of the release before finds none to work on, and can make none.
CREATE TABLE jobs (
    id           TEXT   NOT NULL PRIMARY KEY,
    action       TEXT   NOT NULL, -- replay, retry, discard, reconcile
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
INSERT INTO jobs (id, action, what, filter, options, requested_by, requested_at, state, total, progress, sent,
                  resume_after, trouble, started_at, finished_at, worker, lease_until)
SELECT id, action, what, filter, options, requested_by, requested_at, state, total, progress, sent,
       resume_after, trouble, started_at, finished_at, worker, lease_until
FROM job;
CREATE INDEX jobs_state ON jobs (state, id);

-- What does not agree, event by event; `id` is the difference's own and sorts by finding.
CREATE TABLE differences (
    job_id   TEXT   NOT NULL,
    id       TEXT   NOT NULL,
    pass     BIGINT NOT NULL,
    kind     TEXT   NOT NULL,
    source   TEXT,
    event_id BLOB,
    consumer TEXT,
    detail   TEXT   NOT NULL,
    sent_at  BIGINT,
    PRIMARY KEY (job_id, id)
);
INSERT INTO differences (job_id, id, pass, kind, source, event_id, consumer, detail, sent_at)
SELECT job_id, id, pass, kind, source, unhex(replace(event_id, '-', '')), consumer, detail, sent_at FROM difference;
DROP TABLE difference;

