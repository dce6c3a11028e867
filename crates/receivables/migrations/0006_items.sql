-- What is owed, by another key: instalments are numbered within their agreement. `receivables`, which was this table, stays
-- empty and refuses every write.
--
-- The state of an instalment is what the newest snapshot states about it, or paid, if a payment is newer than that snapshot.
CREATE TABLE receivable_items (
    source           TEXT   NOT NULL,
    kind             TEXT   NOT NULL, -- instalment, order
    agreement_id     TEXT   NOT NULL, -- empty: of no agreement
    external_id      TEXT   NOT NULL,
    due_date         TEXT,
    amount_centavos  BIGINT,
    paid_date        TEXT,            -- of an order: the day on which its first discharge was received
    state            TEXT   NOT NULL, -- open, paid, canceled
    state_order      BIGINT NOT NULL, -- of an instalment: the webhook's id of the snapshot; of an order: time of receipt
    state_event      TEXT   NOT NULL, -- of an instalment: the receipt of the snapshot; empty: older than every receipt
    provider_status  TEXT,            -- of an order's payment: a number without a legend
    status_order     BIGINT NOT NULL,
    status_event     TEXT   NOT NULL,
    first_event      TEXT   NOT NULL,
    state_before     TEXT,
    status_before    TEXT,
    stated           TEXT,            -- the state by the newest snapshot; none if no snapshot mentions the instalment
    stated_at        TEXT   NOT NULL DEFAULT '', -- the last day that the snapshot names, and its receipt; empty: it names none
    stated_paid_date TEXT,
    payment_at       TEXT   NOT NULL DEFAULT '', -- of the newest payment: its day and its receipt; empty: there is none
    PRIMARY KEY (source, kind, agreement_id, external_id)
);
INSERT INTO receivable_items (source, kind, agreement_id, external_id, due_date, amount_centavos, paid_date, state,
                              state_order, state_event, provider_status, status_order, status_event, first_event,
                              state_before, status_before, stated, stated_paid_date)
SELECT source, kind, COALESCE(agreement_id, ''), external_id, due_date, amount_centavos, paid_date, state, state_order,
       CASE WHEN kind = 'order' OR state_event LIKE '% %' THEN state_event ELSE '' END, provider_status, status_order,
       status_event, first_event, state_before, status_before, CASE WHEN kind = 'instalment' THEN state END,
       CASE WHEN kind = 'instalment' THEN paid_date END
FROM receivables;
CREATE INDEX receivable_items_newest ON receivable_items (first_event, external_id);
CREATE INDEX receivable_items_state ON receivable_items (state, first_event, external_id);
CREATE INDEX receivable_items_agreement ON receivable_items (agreement_id, source);

-- Every payment of an instalment that was received, one row per event.
CREATE TABLE instalment_history (
    event_id     TEXT   NOT NULL PRIMARY KEY,
    source       TEXT   NOT NULL,
    agreement_id TEXT   NOT NULL,
    external_id  TEXT   NOT NULL,
    topic        TEXT   NOT NULL,
    webhook_id   BIGINT,          -- counts on its own, not with that of agreements
    due_date     TEXT,
    paid_date    TEXT   NOT NULL,
    means        TEXT,
    method       TEXT,
    amounts      TEXT   NOT NULL, -- JSON: centavos by the provider's name for them
    received_at  BIGINT NOT NULL
);
CREATE INDEX instalment_history_instalment ON instalment_history (agreement_id, external_id, source);
