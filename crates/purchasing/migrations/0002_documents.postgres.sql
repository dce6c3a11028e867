
CREATE OR REPLACE VIEW purchases_view AS
SELECT source, kind, external_id, status, previous_status, coalesce(document_supplier_id, supplier_id) AS supplier_id,
       total_centavos::numeric / 100 AS total, currency, malote_time(updated_at) AS updated_at, first_event,
       document_version
FROM purchases;

CREATE OR REPLACE VIEW purchase_history_view AS
SELECT event_id, source, kind, external_id, topic, status, previous_status, supplier_id,
       malote_time(received_at) AS received_at, total_centavos::numeric / 100 AS total, currency
FROM purchase_history;
