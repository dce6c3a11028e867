-- Times are microseconds since 1970 UTC, flags 0 or 1. `first_event` is the event that made the row; lists are sorted
-- by it. The newest fact about something has the greatest order (time of receipt), then the greatest event; 0 is
-- older than every fact.

-- Invoices: a row as soon as anything is known of one.
CREATE TABLE invoices (
    source                TEXT   NOT NULL,
    external_id           TEXT   NOT NULL, -- the provider's id; at Gestão Online the order's code
    status                TEXT,            -- the provider's code
    previous_status       TEXT,            -- as told together with the status
    status_order          BIGINT NOT NULL,
    status_event          TEXT   NOT NULL,
    created_at            BIGINT,          -- receipt of the first notice that it was created
    updated_at            BIGINT,          -- receipt of the last notice that it was changed
    credit_memo_requested BIGINT NOT NULL,
    first_event           TEXT   NOT NULL,
    PRIMARY KEY (source, external_id)
);
CREATE INDEX invoices_newest ON invoices (first_event, external_id);
CREATE INDEX invoices_status ON invoices (status, first_event, external_id);

-- Attachments, those that were deleted too: an older notice of their creation may still arrive.
CREATE TABLE invoice_attachments (
    source        TEXT   NOT NULL,
    invoice_id    TEXT   NOT NULL,
    attachment_id TEXT   NOT NULL,
    present       BIGINT NOT NULL,
    present_order BIGINT NOT NULL,
    present_event TEXT   NOT NULL,
    PRIMARY KEY (source, invoice_id, attachment_id)
);

-- Everything received about invoices, one row per event. Topics that mean nothing here are recorded too.
CREATE TABLE invoice_history (
    event_id        TEXT   NOT NULL PRIMARY KEY,
    source          TEXT   NOT NULL,
    external_id     TEXT,
    topic           TEXT   NOT NULL,
    status          TEXT,
    previous_status TEXT,
    attachment_id   TEXT,
    received_at     BIGINT NOT NULL
);
CREATE INDEX invoice_history_invoice ON invoice_history (external_id, source);
