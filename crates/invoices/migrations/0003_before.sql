-- What a row had before the statement that wrote it last: where that differs, the change is announced. Of rows from before this
-- step nothing is.
ALTER TABLE invoices ADD COLUMN status_before TEXT;
ALTER TABLE invoices ADD COLUMN memo_before BIGINT NOT NULL DEFAULT 0;
ALTER TABLE invoice_attachments ADD COLUMN present_before BIGINT;
