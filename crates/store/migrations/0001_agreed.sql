-- What all processes of an installation share, by its fingerprint.
CREATE TABLE agreed (
    name TEXT PRIMARY KEY,
    fingerprint TEXT NOT NULL,
    set_by TEXT NOT NULL,
    set_at BIGINT NOT NULL
);
