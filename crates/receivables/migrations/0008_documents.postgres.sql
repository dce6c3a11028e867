
CREATE OR REPLACE VIEW receivables_view AS
SELECT source, kind, external_id, NULLIF(agreement_id, '') AS agreement_id, malote_date(due_date) AS due_date,
       amount_centavos::numeric / 100 AS amount, malote_date(paid_date) AS paid_date, state, provider_status,
       first_event, order_id
FROM receivable_items;
