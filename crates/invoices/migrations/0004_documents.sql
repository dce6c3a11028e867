-- What the document of an invoice says; null until one is fetched. The newest version of a document counts.
ALTER TABLE invoices ADD COLUMN number TEXT;
ALTER TABLE invoices ADD COLUMN series TEXT;
ALTER TABLE invoices ADD COLUMN issue_date TEXT; -- YYYY-MM-DD
ALTER TABLE invoices ADD COLUMN total_centavos BIGINT;
ALTER TABLE invoices ADD COLUMN net_centavos BIGINT;
ALTER TABLE invoices ADD COLUMN currency TEXT;
ALTER TABLE invoices ADD COLUMN supplier_id TEXT;
ALTER TABLE invoices ADD COLUMN document_version BIGINT NOT NULL DEFAULT 0;

-- The suppliers of invoices, as their documents say.
CREATE TABLE invoice_suppliers (
    source           TEXT   NOT NULL,
    supplier_id      TEXT   NOT NULL,
    document         TEXT,            -- CNPJ or CPF, bare
    document_version BIGINT NOT NULL,
    PRIMARY KEY (source, supplier_id)
);
