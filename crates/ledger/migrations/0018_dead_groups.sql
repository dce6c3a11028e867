-- What operators have noted about the dead letters of one consumer with one error.
CREATE TABLE dead_group_notes (
    group_id TEXT   NOT NULL PRIMARY KEY,
    note     TEXT   NOT NULL,
    ticket   TEXT   NOT NULL, -- the address of a ticket, or empty
    noted_by TEXT   NOT NULL,
    noted_at BIGINT NOT NULL
);
-- The trends of groups are counted in this index alone.
CREATE INDEX dead_letters_failed_at ON dead_letters (failed_at, group_id);
