-- The content of a document; NULL of a file, and of what is no JSON in UTF-8.
CREATE FUNCTION malote_document(body bytea) RETURNS jsonb LANGUAGE plpgsql IMMUTABLE AS $$
BEGIN
    RETURN convert_from(body, 'UTF8')::jsonb;
EXCEPTION WHEN others THEN
    RETURN NULL;
END
$$;

-- For people who query by hand; no row breaks a view. A document without the content of its newest version has no size.
CREATE VIEW documents_view AS
SELECT CASE WHEN length(d.id) = 16 THEN encode(d.id, 'hex')::uuid END AS id, d.provider, d.source, d.entity, d.external_id,
       d.subject, d.name, d.state, d.reason, CASE WHEN length(d.asked_by) = 16 THEN encode(d.asked_by, 'hex')::uuid END AS asked_by,
       d.asked, malote_time(d.due_at) AS due_at, d.attempts, d.version, malote_time(d.checked_at) AS checked_at,
       malote_time(v.fetched_at) AS fetched_at, v.content_type, v.size, v.sha256
FROM documents d LEFT JOIN document_versions v ON v.document = d.id AND v.version = d.version;

CREATE VIEW document_versions_view AS
SELECT CASE WHEN length(document) = 16 THEN encode(document, 'hex')::uuid END AS document, version,
       CASE WHEN length(event_id) = 16 THEN encode(event_id, 'hex')::uuid END AS event_id, malote_time(fetched_at) AS fetched_at,
       content_type, size, sha256, malote_document(body) AS content
FROM document_versions;
