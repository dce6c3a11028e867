-- Where the feed ended at a time: everything up to the position `number` was recorded before `at`. A date is looked for from
-- here on, instead of from the start of the feed.
CREATE TABLE feed_marks (
    at     BIGINT NOT NULL PRIMARY KEY,
    number BIGINT NOT NULL
) WITHOUT ROWID;
