-- What the document of a purchase says; null until one is fetched. The newest version of a document counts.
ALTER TABLE purchases ADD COLUMN document_supplier_id TEXT;
ALTER TABLE purchases ADD COLUMN document_version BIGINT NOT NULL DEFAULT 0;
-- What the row had before the statement that wrote it last.
ALTER TABLE purchases ADD COLUMN total_before BIGINT;
ALTER TABLE purchases ADD COLUMN currency_before TEXT;
ALTER TABLE purchase_history ADD COLUMN total_centavos BIGINT;
ALTER TABLE purchase_history ADD COLUMN currency TEXT;
