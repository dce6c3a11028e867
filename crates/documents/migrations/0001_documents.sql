-- The documents that events name, one row for each; times are microseconds since 1970 UTC.
CREATE TABLE documents (
    id              BLOB   NOT NULL PRIMARY KEY,
    provider        TEXT   NOT NULL,
    source          TEXT   NOT NULL,
    entity          TEXT   NOT NULL,
    -- The provider's id; of a file, a hash of its address and name.
    external_id     TEXT   NOT NULL,
    -- What its announcements are about.
    subject         TEXT,
    -- Below the address of the API; of a file, its address until it is there. Empty if it is not known.
    place           TEXT   NOT NULL,
    -- The name of a file.
    name            TEXT,
    -- waiting, fetched, gone or refused, and why
    state           TEXT   NOT NULL,
    reason          TEXT   NOT NULL,
    -- The newest event that names it, and how many have: one that comes while it is fetched has it fetched again.
    asked_by        BLOB   NOT NULL,
    traceparent     TEXT,
    asked           BIGINT NOT NULL,
    -- When it is fetched next, and how many attempts have failed in a row.
    due_at          BIGINT,
    attempts        BIGINT NOT NULL,
    -- The newest version; 0 if there is none.
    version         BIGINT NOT NULL,
    -- When the API was asked for it last.
    checked_at      BIGINT,
    UNIQUE (source, entity, external_id)
);
CREATE INDEX documents_due ON documents (source, due_at);
CREATE INDEX documents_state ON documents (state, id);

-- Each distinct content. That of a file is in the folder of files, under its hash.
CREATE TABLE document_versions (
    document        BLOB   NOT NULL,
    version         BIGINT NOT NULL,
    event_id        BLOB   NOT NULL,
    fetched_at      BIGINT NOT NULL,
    content_type    TEXT   NOT NULL,
    size            BIGINT NOT NULL,
    sha256          TEXT   NOT NULL,
    body            BLOB,
    PRIMARY KEY (document, version)
);

-- How far the events of a source are read, and how its API answers: requests that failed in a row, since when, and the time
-- before which nothing is sent.
CREATE TABLE document_sources (
    source          TEXT   NOT NULL PRIMARY KEY,
    cursor          TEXT   NOT NULL,
    failures        BIGINT NOT NULL,
    failing_since   BIGINT,
    held_until      BIGINT,
    -- The first digits of a hash of address and credentials: with others, what they were refused is fetched again.
    credentials     TEXT   NOT NULL
);
