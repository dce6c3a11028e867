-- The event that was sent with a corrected body in place of this dead letter, which is closed with that. Adding the column
-- rewrites no row, and the index is of few.
SET LOCAL lock_timeout = '2s';
ALTER TABLE dead_letters ADD COLUMN replaced_by BYTEA;
CREATE INDEX dead_letters_replaced_by ON dead_letters (replaced_by) WHERE replaced_by IS NOT NULL;
CREATE OR REPLACE VIEW dead_letters_view AS
SELECT encode(event_id, 'hex')::uuid AS event_id, consumer, source, provider, topic, attempts, error,
       malote_time(first_failed_at) AS first_failed_at, malote_time(failed_at) AS failed_at, died_in, resent_in,
       discarded_in, content_type, malote_jsonb(headers) AS headers, body, malote_uuid(replaced_by) AS replaced_by
FROM dead_letters;
