-- What internal services asked for. `declaration` is JSON; `sealed` holds the secrets, encrypted with the installation's key.
CREATE TABLE subscriptions (
    id              BLOB   NOT NULL PRIMARY KEY,
    name            TEXT   NOT NULL UNIQUE,
    door            TEXT   NOT NULL,
    declaration     TEXT   NOT NULL,
    sealed          BLOB   NOT NULL,
    -- SHA-256 of the token that may read a pull subscription.
    token           BLOB,
    -- active, failing or paused, and why
    state           TEXT   NOT NULL,
    reason          TEXT   NOT NULL,
    -- Every event up to here is delivered, or has a row in `deliveries`.
    cursor          TEXT   NOT NULL,
    -- Delivered again beside the live events: {"cursor", "until", "rate_per_s"} as JSON.
    backfill        TEXT,
    -- Goes up with every change by management: what works on it reads it again.
    version         BIGINT NOT NULL,
    -- Goes up when management sets the cursor: what was delivered before it may not set it again.
    moved           BIGINT NOT NULL,
    -- The replica that delivers its events, until when.
    lease_owner     TEXT,
    lease_until     BIGINT,
    -- The breaker: requests that failed in a row, since when, and the time before which nothing is sent.
    failures        BIGINT NOT NULL,
    failing_since   BIGINT,
    held_until      BIGINT,
    created_at      BIGINT NOT NULL,
    changed_at      BIGINT NOT NULL
);

-- Events that wait for another attempt, or behind one of the same subject. Without `due_at` an event is undelivered: its
-- attempts are used up.
CREATE TABLE deliveries (
    subscription    BLOB   NOT NULL,
    event_id        BLOB   NOT NULL,
    subject         TEXT,
    received_at     BIGINT NOT NULL,
    attempts        BIGINT NOT NULL,
    -- How many waits of the schedule are used up: fewer than attempts, since a probe uses none.
    steps           BIGINT NOT NULL,
    due_at          BIGINT,
    PRIMARY KEY (subscription, event_id)
) WITHOUT ROWID;
CREATE INDEX deliveries_due ON deliveries (subscription, due_at, received_at);

-- Every request that was answered or failed, one row for each of its events.
CREATE TABLE delivery_attempts (
    subscription    BLOB   NOT NULL,
    at              BIGINT NOT NULL,
    event_id        BLOB   NOT NULL,
    attempt         BIGINT NOT NULL,
    duration_ms     BIGINT NOT NULL,
    status          BIGINT,
    error           TEXT,
    answer          TEXT,
    PRIMARY KEY (subscription, at, event_id)
) WITHOUT ROWID;
CREATE INDEX delivery_attempts_event ON delivery_attempts (event_id);

-- The replicas of the role, for an even share of the subscriptions.
CREATE TABLE push_replicas (
    name            TEXT   NOT NULL PRIMARY KEY,
    alive_until     BIGINT NOT NULL
);
