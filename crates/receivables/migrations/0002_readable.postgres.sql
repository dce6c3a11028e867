-- The views of the first migration, which no row breaks: see the functions of the store.
CREATE OR REPLACE VIEW receivables_view AS
SELECT source, kind, external_id, agreement_id, malote_date(due_date) AS due_date,
       amount_centavos::numeric / 100 AS amount, malote_date(paid_date) AS paid_date, state, provider_status,
       first_event
FROM receivables;

CREATE OR REPLACE VIEW agreements_view AS
SELECT source, external_id, client_id, client_name, document, creditor_id, creditor_name,
       malote_date(agreed_date) AS agreed_date, malote_date(canceled_date) AS canceled_date, cancel_reason,
       agreed_centavos::numeric / 100 AS agreed, original_centavos::numeric / 100 AS original,
       instalments, state, webhook_id, first_event
FROM agreements;

CREATE OR REPLACE VIEW agreement_debts_view AS
SELECT source, agreement_id, position, external_id, malote_date(due_date) AS due_date,
       malote_date(paid_date) AS paid_date, amount_centavos::numeric / 100 AS amount, description, contract, code,
       state
FROM agreement_debts;

CREATE OR REPLACE VIEW agreement_history_view AS
SELECT event_id, source, external_id, topic, webhook_id, state, agreed_centavos::numeric / 100 AS agreed,
       instalments, paid_instalments, malote_time(received_at) AS received_at
FROM agreement_history;

CREATE OR REPLACE VIEW order_history_view AS
SELECT event_id, source, external_id, topic, provider_status, malote_time(received_at) AS received_at
FROM order_history;
