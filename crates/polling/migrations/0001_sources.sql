-- The configured sources, as the process that polls them has registered them, and how polling them went. Times are microseconds
-- since 1970 UTC.
CREATE TABLE sources (
    source      TEXT   NOT NULL PRIMARY KEY,
    provider    TEXT   NOT NULL,
    every_s     BIGINT,          -- none: it is not polled
    next_at     BIGINT NOT NULL, -- not before
    held_until  BIGINT NOT NULL, -- not before, since the API asked for it
    polled_at   BIGINT,
    items       BIGINT,          -- in the last answer
    failures    BIGINT NOT NULL, -- in a row
    failed_at   BIGINT,
    failure     TEXT,
    lease_owner TEXT,            -- the process that polls it, until when
    lease_until BIGINT NOT NULL
);
