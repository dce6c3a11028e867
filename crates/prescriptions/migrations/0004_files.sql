-- The files of renewals: as their webhooks name them, and as they were archived; either may come first.
CREATE TABLE prescription_files (
    source      TEXT   NOT NULL,
    file_key    TEXT   NOT NULL, -- a hash of its address and name
    event_id    TEXT   NOT NULL, -- that names it, the first one
    document    TEXT,            -- CPF, bare; none before the event was handled
    file_name   TEXT,
    archive_id  TEXT,            -- among the documents that were fetched; none before it is archived
    sha256      TEXT,
    size        BIGINT,
    archived_at TEXT,
    PRIMARY KEY (source, file_key)
);
CREATE INDEX prescription_files_document ON prescription_files (document);
