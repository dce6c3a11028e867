
CREATE OR REPLACE VIEW invoices_view AS
SELECT source, external_id, status, previous_status,
       ARRAY(SELECT attachment_id FROM invoice_attachments
             WHERE invoice_attachments.source = invoices.source AND invoice_id = external_id AND present = 1
             ORDER BY attachment_id) AS attachments,
       credit_memo_requested = 1 AS credit_memo_requested,
       malote_time(created_at) AS created_at, malote_time(updated_at) AS updated_at, first_event,
       number, series, malote_date(issue_date) AS issue_date, total_centavos::numeric / 100 AS total,
       net_centavos::numeric / 100 AS net, currency, supplier_id,
       (SELECT document FROM invoice_suppliers
        WHERE invoice_suppliers.source = invoices.source
        AND invoice_suppliers.supplier_id = invoices.supplier_id) AS supplier_document
FROM invoices;
