DROP FUNCTION malote_unhex(text);
ANALYZE origins, events, unsettled_events, unrouted_events, rejected_bodies, dead_letters, jobs, differences;

-- For people who query by hand: ids as uuid, times as timestamps.
CREATE VIEW events_view AS
SELECT encode(e.id, 'hex')::uuid AS id, o.source, o.provider, o.topic, e.subject, malote_time(e.received_at) AS received_at,
       string_to_array(e.consumers, ' ') AS consumers, e.content_type, length(e.body) AS size,
       encode(e.replay_of, 'hex')::uuid AS replay_of, encode(e.duplicate_of, 'hex')::uuid AS duplicate_of,
       e.repaired = 1 AS repaired, malote_jsonb(e.headers) AS headers, e.body
FROM events e JOIN origins o ON o.id = e.origin;

CREATE VIEW claims_view AS
SELECT encode(event_id, 'hex')::uuid AS event_id, consumer, malote_time(handled_at) AS handled_at, note FROM claims;

CREATE VIEW unrouted_events_view AS
SELECT encode(u.event_id, 'hex')::uuid AS event_id, o.source, o.provider, o.topic, u.subject,
       malote_time(u.received_at) AS received_at, malote_time(u.marked_at) AS marked_at, u.marked_in, u.resent_in,
       u.discarded_in
FROM unrouted_events u JOIN origins o ON o.id = u.origin;

CREATE VIEW rejected_bodies_view AS
SELECT encode(id, 'hex')::uuid AS id, source, provider, malote_time(received_at) AS received_at, cause, content_type, size,
       resent_in, discarded_in, malote_jsonb(headers) AS headers, body
FROM rejected_bodies;

CREATE VIEW dead_letters_view AS
SELECT encode(event_id, 'hex')::uuid AS event_id, consumer, source, provider, topic, attempts, error,
       malote_time(first_failed_at) AS first_failed_at, malote_time(failed_at) AS failed_at, died_in, resent_in,
       discarded_in, content_type, malote_jsonb(headers) AS headers, body
FROM dead_letters;
