-- The feed reads events in the order of their rowid, which one writer at a time gives: the greatest there is, and one. Once the
-- newest events are deleted, their rowids are given again: events with a greater rowid than `above` have the position
-- `rowid + shift`, by the greatest `above`.
CREATE TABLE feed_shift (
    above BIGINT NOT NULL PRIMARY KEY,
    shift BIGINT NOT NULL
);
INSERT INTO feed_shift (above, shift) VALUES (0, 0);

-- The last position that was deleted, for each origin.
CREATE TABLE feed_deleted (
    origin INTEGER NOT NULL PRIMARY KEY,
    number BIGINT  NOT NULL,
    id     BLOB    NOT NULL
);
CREATE TRIGGER feed_deleted AFTER DELETE ON events BEGIN
    INSERT INTO feed_deleted (origin, number, id)
    VALUES (old.origin,
            old.rowid + (SELECT shift FROM feed_shift WHERE above < old.rowid ORDER BY above DESC LIMIT 1), old.id)
    ON CONFLICT (origin) DO UPDATE SET number = excluded.number, id = excluded.id
    WHERE excluded.number > feed_deleted.number;
    -- Nothing changes unless it was the newest.
    INSERT INTO feed_shift (above, shift)
    SELECT newest, (SELECT max(number) FROM feed_deleted) - newest
    FROM (SELECT coalesce(max(rowid), 0) AS newest FROM events) WHERE newest < old.rowid
    ON CONFLICT (above) DO UPDATE SET shift = excluded.shift;
    DELETE FROM feed_shift WHERE above > (SELECT coalesce(max(rowid), 0) FROM events);
END;
