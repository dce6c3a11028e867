-- Of a domain event, the event whose effect it announces. Adding the column rewrites no row.
SET LOCAL lock_timeout = '2s';
ALTER TABLE events ADD COLUMN caused_by BYTEA;
CREATE OR REPLACE VIEW events_view AS
SELECT encode(e.id, 'hex')::uuid AS id, o.source, o.provider, o.topic, e.subject, malote_time(e.received_at) AS received_at,
       string_to_array(e.consumers, ' ') AS consumers, e.content_type, length(e.body) AS size,
       encode(e.replay_of, 'hex')::uuid AS replay_of, encode(e.duplicate_of, 'hex')::uuid AS duplicate_of,
       e.repaired = 1 AS repaired, malote_jsonb(e.headers) AS headers, e.body,
       encode(e.caused_by, 'hex')::uuid AS caused_by
FROM events e JOIN origins o ON o.id = e.origin;
