-- The state that a row had before the statement that wrote it last: where that differs, the change is announced. Of rows from
-- before this step nothing is.
ALTER TABLE prescriptions ADD COLUMN state_before TEXT;
