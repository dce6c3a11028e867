-- Processes of the release before this one may be at work. Their tables stay, empty, and refuse every write with an error
-- that such a process takes for a database that is down: it waits until it is replaced, and counts no attempt.
LOCK TABLE inbox, writable IN ACCESS EXCLUSIVE MODE;

CREATE FUNCTION malote_refuse() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION 'the tables are of a newer release of malote: replace this process'
        USING ERRCODE = 'cannot_connect_now';
END
$$;

CREATE FUNCTION unhex(text) RETURNS bytea LANGUAGE sql IMMUTABLE AS $$ SELECT decode($1, 'hex') $$;

