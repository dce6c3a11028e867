
ANALYZE receivable_items;

CREATE OR REPLACE VIEW receivables_view AS
SELECT source, kind, external_id, NULLIF(agreement_id, '') AS agreement_id, malote_date(due_date) AS due_date,
       amount_centavos::numeric / 100 AS amount, malote_date(paid_date) AS paid_date, state, provider_status,
       first_event
FROM receivable_items;

CREATE VIEW instalment_history_view AS
SELECT event_id, source, agreement_id, external_id, topic, webhook_id, malote_date(due_date) AS due_date,
       malote_date(paid_date) AS paid_date, means, method, malote_jsonb(amounts) AS amounts,
       malote_time(received_at) AS received_at
FROM instalment_history;
