-- The event that was sent with a corrected body in place of this dead letter, which is closed with that.
ALTER TABLE dead_letters ADD COLUMN replaced_by BLOB;
CREATE INDEX dead_letters_replaced_by ON dead_letters (replaced_by) WHERE replaced_by IS NOT NULL;
