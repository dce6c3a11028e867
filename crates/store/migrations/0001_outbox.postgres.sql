-- Domain events that the broker has not confirmed yet; those of one subject in their order. Rows are soon deleted, and vacuum
-- must not wait until they are a share of a large table.
CREATE TABLE outbox (
    number      BIGINT GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    written_at  BIGINT NOT NULL,
    received_at BIGINT NOT NULL,
    id          BYTEA  NOT NULL CHECK (length(id) = 16),
    caused_by   BYTEA,
    source      TEXT   NOT NULL,
    topic       TEXT   NOT NULL,
    subject     TEXT,
    traceparent TEXT,
    data        BYTEA  NOT NULL
) WITH (autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 2000, autovacuum_vacuum_cost_delay = 0);

-- Who publishes them, and until when.
CREATE TABLE outbox_lease (
    name        TEXT   NOT NULL PRIMARY KEY,
    holder      TEXT   NOT NULL,
    lease_until BIGINT NOT NULL
);
INSERT INTO outbox_lease (name, holder, lease_until) VALUES ('relay', '', 0);
