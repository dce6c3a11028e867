-- The first event of each source with a key by which the source tells its facts apart, until the time (microseconds
-- since 1970, UTC) up to which another event with this key is its duplicate.
CREATE TABLE seen (
    source        TEXT   NOT NULL,
    duplicate_key TEXT   NOT NULL,
    event_id      TEXT   NOT NULL,
    seen_at       BIGINT NOT NULL,
    until         BIGINT NOT NULL,
    PRIMARY KEY (source, duplicate_key)
);
CREATE INDEX seen_until ON seen (until);
