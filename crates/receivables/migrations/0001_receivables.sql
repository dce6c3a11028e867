-- Amounts are centavos, times microseconds since 1970 UTC, dates YYYY-MM-DD. `first_event` is the event that made the
-- row; lists are sorted by it.

-- What is owed: one row per instalment of an agreement and per order. The newest fact about an aspect has the
-- greatest `<aspect>_order`, then the greatest `<aspect>_event`; 0 is older than every fact.
CREATE TABLE receivables (
    source          TEXT   NOT NULL,
    kind            TEXT   NOT NULL, -- instalment, order
    external_id     TEXT   NOT NULL,
    agreement_id    TEXT,
    due_date        TEXT,
    amount_centavos BIGINT,
    paid_date       TEXT,            -- of an order: the day (UTC) on which its first discharge was received
    state           TEXT   NOT NULL, -- open, paid, canceled
    state_order     BIGINT NOT NULL, -- of an instalment: the webhook's id; of an order: time of receipt
    state_event     TEXT   NOT NULL,
    provider_status TEXT,            -- of an order's payment: a number without a legend
    status_order    BIGINT NOT NULL,
    status_event    TEXT   NOT NULL,
    first_event     TEXT   NOT NULL,
    PRIMARY KEY (source, kind, external_id)
);
CREATE INDEX receivables_newest ON receivables (first_event, external_id);
CREATE INDEX receivables_state ON receivables (state, first_event, external_id);
CREATE INDEX receivables_agreement ON receivables (agreement_id, source);

-- Agreements, as their newest snapshot has them.
CREATE TABLE agreements (
    source            TEXT   NOT NULL,
    external_id       TEXT   NOT NULL,
    client_id         TEXT,
    client_name       TEXT,
    document          TEXT,            -- CPF or CNPJ, bare
    creditor_id       TEXT,
    creditor_name     TEXT,
    agreed_date       TEXT,
    canceled_date     TEXT,
    cancel_reason     TEXT,
    agreed_centavos   BIGINT NOT NULL,
    original_centavos BIGINT NOT NULL,
    instalments       BIGINT NOT NULL,
    state             TEXT   NOT NULL, -- active, settled, canceled, inactive
    webhook_id        BIGINT NOT NULL, -- of the newest snapshot
    first_event       TEXT   NOT NULL,
    PRIMARY KEY (source, external_id)
);
CREATE INDEX agreements_newest ON agreements (first_event, external_id);
CREATE INDEX agreements_state ON agreements (state, first_event, external_id);
CREATE INDEX agreements_document ON agreements (document);

-- The debts that an agreement settles, as its newest snapshot lists them.
CREATE TABLE agreement_debts (
    source          TEXT   NOT NULL,
    agreement_id    TEXT   NOT NULL,
    position        BIGINT NOT NULL, -- in the list, from 0
    external_id     TEXT   NOT NULL,
    due_date        TEXT,
    paid_date       TEXT,
    amount_centavos BIGINT NOT NULL,
    description     TEXT,
    contract        TEXT,
    code            TEXT,
    state           TEXT   NOT NULL, -- open, paid
    PRIMARY KEY (source, agreement_id, position)
);

-- Every snapshot received, one row per event. Its whole body is in the ledger.
CREATE TABLE agreement_history (
    event_id          TEXT   NOT NULL PRIMARY KEY,
    source            TEXT   NOT NULL,
    external_id       TEXT   NOT NULL,
    topic             TEXT   NOT NULL,
    webhook_id        BIGINT NOT NULL,
    state             TEXT   NOT NULL,
    agreed_centavos   BIGINT NOT NULL,
    instalments       BIGINT NOT NULL,
    paid_instalments  BIGINT NOT NULL,
    received_at       BIGINT NOT NULL
);
CREATE INDEX agreement_history_agreement ON agreement_history (external_id, source);

-- Everything received about orders, one row per event.
CREATE TABLE order_history (
    event_id        TEXT   NOT NULL PRIMARY KEY,
    source          TEXT   NOT NULL,
    external_id     TEXT   NOT NULL,
    topic           TEXT   NOT NULL,
    provider_status TEXT, -- as the body has it; its meaning depends on the topic
    received_at     BIGINT NOT NULL
);
CREATE INDEX order_history_order ON order_history (external_id, source);
