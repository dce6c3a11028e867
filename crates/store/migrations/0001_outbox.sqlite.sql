-- Domain events that the broker has not confirmed yet; those of one subject in their order. No number is given twice.
CREATE TABLE outbox (
    number      INTEGER NOT NULL PRIMARY KEY AUTOINCREMENT,
    written_at  BIGINT  NOT NULL,
    received_at BIGINT  NOT NULL,
    id          BLOB    NOT NULL CHECK (length(id) = 16),
    caused_by   BLOB,
    source      TEXT    NOT NULL,
    topic       TEXT    NOT NULL,
    subject     TEXT,
    traceparent TEXT,
    data        BLOB    NOT NULL
);

-- Who publishes them, and until when.
CREATE TABLE outbox_lease (
    name        TEXT   NOT NULL PRIMARY KEY,
    holder      TEXT   NOT NULL,
    lease_until BIGINT NOT NULL
);
INSERT INTO outbox_lease (name, holder, lease_until) VALUES ('relay', '', 0);
