-- What the documents of orders say: the amount of each, and its instalments, which are items of their own.
ALTER TABLE receivable_items ADD COLUMN order_id TEXT; -- of an instalment of an order
ALTER TABLE receivable_items ADD COLUMN document_version BIGINT NOT NULL DEFAULT 0; -- 0: of no document
CREATE INDEX receivable_items_order ON receivable_items (order_id, source) WHERE order_id IS NOT NULL;
