
-- For people who query by hand: amounts in reais, days as dates, times as timestamps.
CREATE VIEW receivables_view AS
SELECT source, kind, external_id, agreement_id, due_date::date AS due_date,
       amount_centavos::numeric / 100 AS amount, paid_date::date AS paid_date, state, provider_status, first_event
FROM receivables;

CREATE VIEW agreements_view AS
SELECT source, external_id, client_id, client_name, document, creditor_id, creditor_name,
       agreed_date::date AS agreed_date, canceled_date::date AS canceled_date, cancel_reason,
       agreed_centavos::numeric / 100 AS agreed, original_centavos::numeric / 100 AS original,
       instalments, state, webhook_id, first_event
FROM agreements;

CREATE VIEW agreement_debts_view AS
SELECT source, agreement_id, position, external_id, due_date::date AS due_date, paid_date::date AS paid_date,
       amount_centavos::numeric / 100 AS amount, description, contract, code, state
FROM agreement_debts;

CREATE VIEW agreement_history_view AS
SELECT event_id, source, external_id, topic, webhook_id, state, agreed_centavos::numeric / 100 AS agreed,
       instalments, paid_instalments, timestamptz 'epoch' + received_at * interval '1 microsecond' AS received_at
FROM agreement_history;

CREATE VIEW order_history_view AS
SELECT event_id, source, external_id, topic, provider_status,
       timestamptz 'epoch' + received_at * interval '1 microsecond' AS received_at
FROM order_history;
