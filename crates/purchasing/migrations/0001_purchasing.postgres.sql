
-- For people who query by hand; no row breaks a view.
CREATE VIEW purchases_view AS
SELECT source, kind, external_id, status, previous_status, supplier_id, total_centavos::numeric / 100 AS total, currency,
       malote_time(updated_at) AS updated_at, first_event
FROM purchases;

CREATE VIEW purchase_history_view AS
SELECT event_id, source, kind, external_id, topic, status, previous_status, supplier_id,
       malote_time(received_at) AS received_at
FROM purchase_history;
