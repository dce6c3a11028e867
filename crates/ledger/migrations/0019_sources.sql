-- What the ingresses report of their sources. Times are microseconds since 1970 UTC.
-- Each secret that a source accepts or has accepted, by a hash with the key of subjects: without that key no guess can be tried.
CREATE TABLE source_secrets (
    source        TEXT   NOT NULL,
    setting       TEXT   NOT NULL, -- such as query.secrets
    fingerprint   TEXT   NOT NULL,
    place         BIGINT NOT NULL, -- in the list of the setting
    first_seen_at BIGINT NOT NULL,
    seen_at       BIGINT NOT NULL, -- in the newest report that has it
    used_at       BIGINT,          -- to the second
    removed_at    BIGINT,          -- the first report without it
    PRIMARY KEY (source, setting, fingerprint)
);

-- The last request of a source that was refused for each reason.
CREATE TABLE source_refusals (
    source        TEXT   NOT NULL,
    reason        TEXT   NOT NULL,
    failed        TEXT,            -- the mechanisms that it did not pass
    refused_at    BIGINT NOT NULL,
    PRIMARY KEY (source, reason)
);
