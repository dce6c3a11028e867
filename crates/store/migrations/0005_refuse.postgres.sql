-- Processes of the release before this one may be at work. Their tables stay and refuse every write with an error that such a
-- process takes for a database that is down: it waits until it is replaced, and counts no attempt. A step of its own, so that
-- the refusal is in force while the rows are copied: a writer that waited for a lock as long would count attempts.
-- Whoever writes waits behind this one meanwhile, so it gives up soon, and is tried again; but not before an autovacuum gives
-- way, after deadlock_timeout (1 s).
SET LOCAL lock_timeout = '2s';
CREATE FUNCTION malote_refuse() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION 'the tables are of a newer release of malote: replace this process'
        USING ERRCODE = 'cannot_connect_now';
END
$$;
CREATE TRIGGER refuse BEFORE INSERT OR UPDATE OR DELETE ON inbox FOR EACH STATEMENT EXECUTE FUNCTION malote_refuse();
CREATE TRIGGER refuse BEFORE INSERT OR UPDATE OR DELETE ON writable FOR EACH STATEMENT EXECUTE FUNCTION malote_refuse();
