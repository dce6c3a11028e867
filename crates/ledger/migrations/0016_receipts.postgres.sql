-- What the sender of an event was answered: the status, the client's address and the sender's own id, with a space between.
-- NULL where nobody posted it, or an earlier version recorded it. Rejected bodies have it among their headers.
-- Adding the column rewrites no row.
SET LOCAL lock_timeout = '2s';
ALTER TABLE events ADD COLUMN answer TEXT;
CREATE OR REPLACE VIEW events_view AS
SELECT malote_uuid(e.id) AS id, o.source, o.provider, o.topic, e.subject, malote_time(e.received_at) AS received_at,
       string_to_array(e.consumers, ' ') AS consumers, e.content_type, length(e.body) AS size,
       malote_uuid(e.replay_of) AS replay_of, malote_uuid(e.duplicate_of) AS duplicate_of, e.repaired = 1 AS repaired,
       malote_jsonb(e.headers) AS headers, e.body, malote_uuid(e.caused_by) AS caused_by, e.answer
FROM events e JOIN origins o ON o.id = e.origin;
