-- The views of the first migration, which no row breaks: see the functions of the store.
CREATE OR REPLACE VIEW invoices_view AS
SELECT source, external_id, status, previous_status,
       ARRAY(SELECT attachment_id FROM invoice_attachments
             WHERE invoice_attachments.source = invoices.source AND invoice_id = external_id AND present = 1
             ORDER BY attachment_id) AS attachments,
       credit_memo_requested = 1 AS credit_memo_requested,
       malote_time(created_at) AS created_at, malote_time(updated_at) AS updated_at, first_event
FROM invoices;

CREATE OR REPLACE VIEW invoice_history_view AS
SELECT event_id, source, external_id, topic, status, previous_status, attachment_id,
       malote_time(received_at) AS received_at
FROM invoice_history;
