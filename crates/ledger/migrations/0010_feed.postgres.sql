-- The feed reads events in the order of the transactions that wrote them: `written_in` is the number of the transaction (xid8).
-- Events on record get that of this migration, in which they are sorted by id, which is the order of receipt. The default
-- keeps the insert statements of the previous release valid, and adding it rewrites no row.
SET LOCAL lock_timeout = '2s';
ALTER TABLE events ADD COLUMN written_in BIGINT NOT NULL DEFAULT (pg_current_xact_id()::text::bigint);

-- What is added to the number of a transaction: more than 0 once the tables were restored into a cluster whose numbers are
-- lower than those on record (crates/ledger/src/feed/cluster.rs).
CREATE TABLE feed_shift (shift BIGINT NOT NULL);
INSERT INTO feed_shift (shift) VALUES (0);

-- The last position that was deleted, for each origin.
CREATE TABLE feed_deleted (
    origin INTEGER NOT NULL PRIMARY KEY,
    number BIGINT  NOT NULL,
    id     BLOB    NOT NULL
);
CREATE FUNCTION malote_feed_deleted() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO feed_deleted (origin, number, id)
    SELECT DISTINCT ON (origin) origin, written_in, id FROM deleted ORDER BY origin, written_in DESC, id DESC
    ON CONFLICT (origin) DO UPDATE SET number = excluded.number, id = excluded.id
    WHERE (excluded.number, excluded.id) > (feed_deleted.number, feed_deleted.id);
    RETURN NULL;
END $$;
CREATE TRIGGER feed_deleted AFTER DELETE ON events REFERENCING OLD TABLE AS deleted
FOR EACH STATEMENT EXECUTE FUNCTION malote_feed_deleted();
