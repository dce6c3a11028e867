-- Times are microseconds since 1970 UTC. `first_event` is the event that made the row; lists are sorted by it. The
-- newest state has the greatest state_order (time of receipt), then the greatest state_event.

-- Requests for a renewal, as the newest notice has them. Measurements are decimals, kept as text to stay exact.
CREATE TABLE prescriptions (
    source            TEXT   NOT NULL,
    document          TEXT   NOT NULL, -- CPF, bare
    partner_hash      TEXT   NOT NULL, -- SHA-256 of partner_params
    partner_params    TEXT   NOT NULL, -- canonical JSON
    email             TEXT,
    state             TEXT   NOT NULL, -- pending, in_analysis, rejected, renewed
    reason            TEXT,
    right_spherical   TEXT,
    right_cylindrical TEXT,
    right_axis        TEXT,
    right_add         TEXT,
    left_spherical    TEXT,
    left_cylindrical  TEXT,
    left_axis         TEXT,
    left_add          TEXT,
    files             TEXT   NOT NULL, -- JSON: [{"file_name", "file_url"}]
    state_order       BIGINT NOT NULL,
    state_event       TEXT   NOT NULL,
    first_event       TEXT   NOT NULL,
    PRIMARY KEY (source, document, partner_hash)
);
CREATE INDEX prescriptions_newest ON prescriptions (first_event, source);
CREATE INDEX prescriptions_state ON prescriptions (state, first_event, source);
CREATE INDEX prescriptions_document ON prescriptions (document);

-- Everything received about renewals, one row per event. Measurements are in the ledger's copy of the body only.
CREATE TABLE prescription_history (
    event_id     TEXT   NOT NULL PRIMARY KEY,
    source       TEXT   NOT NULL,
    document     TEXT   NOT NULL,
    partner_hash TEXT   NOT NULL,
    topic        TEXT   NOT NULL,
    state        TEXT   NOT NULL,
    reason       TEXT,
    files        BIGINT NOT NULL, -- how many
    received_at  BIGINT NOT NULL
);
CREATE INDEX prescription_history_request ON prescription_history (document, partner_hash, source);
