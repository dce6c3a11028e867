
CREATE VIEW prescription_files_view AS
SELECT source, file_key, event_id, document, file_name, archive_id, sha256, size, archived_at
FROM prescription_files;
