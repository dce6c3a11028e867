
-- For people who query by hand: times as timestamps, flags as booleans, attachments as an array.
CREATE VIEW invoices_view AS
SELECT source, external_id, status, previous_status,
       ARRAY(SELECT attachment_id FROM invoice_attachments
             WHERE invoice_attachments.source = invoices.source AND invoice_id = external_id AND present = 1
             ORDER BY attachment_id) AS attachments,
       credit_memo_requested = 1 AS credit_memo_requested,
       timestamptz 'epoch' + created_at * interval '1 microsecond' AS created_at,
       timestamptz 'epoch' + updated_at * interval '1 microsecond' AS updated_at,
       first_event
FROM invoices;

CREATE VIEW invoice_history_view AS
SELECT event_id, source, external_id, topic, status, previous_status, attachment_id,
       timestamptz 'epoch' + received_at * interval '1 microsecond' AS received_at
FROM invoice_history;
