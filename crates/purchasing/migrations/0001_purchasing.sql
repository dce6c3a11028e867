-- Times are microseconds since 1970 UTC. `first_event` is the event that made the row; lists are sorted by it. The newest fact
-- about something has the greatest order (time of receipt), then the greatest event; 0 is older than every fact.

-- What is bought: orders, requests, contracts and the like. A row as soon as anything is known of one.
CREATE TABLE purchases (
    source          TEXT   NOT NULL,
    kind            TEXT   NOT NULL, -- order, preorder, prerequest, request, rfq, contract, service_sheet, service_sheet_document
    external_id     TEXT   NOT NULL, -- the provider's id
    status          TEXT,            -- the provider's code, or the word of a topic that says a state
    previous_status TEXT,            -- as told together with the status
    status_order    BIGINT NOT NULL,
    status_event    TEXT   NOT NULL,
    supplier_id     TEXT,
    supplier_order  BIGINT NOT NULL,
    supplier_event  TEXT   NOT NULL,
    total_centavos  BIGINT,
    currency        TEXT,
    updated_at      BIGINT NOT NULL, -- receipt of the last event about it
    first_event     TEXT   NOT NULL,
    status_before   TEXT,            -- what it had before the statement that wrote the row last
    PRIMARY KEY (source, kind, external_id)
);
CREATE INDEX purchases_newest ON purchases (first_event, external_id);
CREATE INDEX purchases_kind ON purchases (kind, first_event, external_id);

-- Everything received about purchases, one row per event. Topics that mean nothing here are recorded too.
CREATE TABLE purchase_history (
    event_id        TEXT   NOT NULL PRIMARY KEY,
    source          TEXT   NOT NULL,
    kind            TEXT,
    external_id     TEXT,
    topic           TEXT   NOT NULL,
    status          TEXT,
    previous_status TEXT,
    supplier_id     TEXT,
    received_at     BIGINT NOT NULL
);
CREATE INDEX purchase_history_purchase ON purchase_history (external_id, kind, source);
