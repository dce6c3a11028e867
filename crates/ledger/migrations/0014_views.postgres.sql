-- For the views: bytes that are no id read as NULL, so that one row never breaks a query.
CREATE FUNCTION malote_uuid(value bytea) RETURNS uuid LANGUAGE sql IMMUTABLE AS $$
    SELECT CASE WHEN length(value) = 16 THEN encode(value, 'hex')::uuid END
$$;

CREATE OR REPLACE VIEW events_view AS
SELECT malote_uuid(e.id) AS id, o.source, o.provider, o.topic, e.subject, malote_time(e.received_at) AS received_at,
       string_to_array(e.consumers, ' ') AS consumers, e.content_type, length(e.body) AS size,
       malote_uuid(e.replay_of) AS replay_of, malote_uuid(e.duplicate_of) AS duplicate_of, e.repaired = 1 AS repaired,
       malote_jsonb(e.headers) AS headers, e.body, malote_uuid(e.caused_by) AS caused_by
FROM events e JOIN origins o ON o.id = e.origin;
