-- The inbox with ids of 16 bytes. By hand: `hex(event_id)` in SQLite, the view in PostgreSQL.
CREATE TABLE claims (
    handled_at BIGINT NOT NULL,
    event_id   BLOB   NOT NULL CHECK (length(event_id) = 16),
    consumer   TEXT   NOT NULL,
    note       TEXT,
    PRIMARY KEY (event_id, consumer)
) WITHOUT ROWID;
INSERT INTO claims (handled_at, event_id, consumer, note)
SELECT handled_at, unhex(replace(event_id, '-', '')), consumer, note FROM inbox;

-- One row, written to find out whether the database takes writes.
CREATE TABLE probe (
    checked_at BIGINT NOT NULL
);
INSERT INTO probe (checked_at) VALUES (0);

