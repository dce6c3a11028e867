-- What a row had before the statement that wrote it last: where that differs, the change is announced. Of rows from before this
-- step nothing is.
ALTER TABLE receivables ADD COLUMN state_before TEXT;
ALTER TABLE receivables ADD COLUMN status_before TEXT;
ALTER TABLE agreements ADD COLUMN state_before TEXT;
