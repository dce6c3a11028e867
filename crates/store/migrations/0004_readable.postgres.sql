-- For the views: a stored value that its type does not take reads as NULL, so that one row never breaks a query.
CREATE FUNCTION malote_date(value text) RETURNS date LANGUAGE plpgsql IMMUTABLE AS $$
BEGIN
    IF value ~ '^[0-9]{4}-[0-9]{2}-[0-9]{2}$' THEN
        RETURN make_date(substr(value, 1, 4)::int, substr(value, 6, 2)::int, substr(value, 9, 2)::int);
    END IF;
    RETURN NULL;
EXCEPTION WHEN others THEN
    RETURN NULL;
END
$$;

CREATE FUNCTION malote_jsonb(value text) RETURNS jsonb LANGUAGE plpgsql IMMUTABLE AS $$
BEGIN
    RETURN value::jsonb;
EXCEPTION WHEN others THEN
    RETURN NULL;
END
$$;

CREATE FUNCTION malote_numeric(value text) RETURNS numeric LANGUAGE sql IMMUTABLE AS $$
    SELECT CASE WHEN value ~ '^-?[0-9]{1,40}(\.[0-9]{1,40})?$' THEN value::numeric END
$$;

-- Of microseconds since 1970 UTC, in the years 1 to 9999.
CREATE FUNCTION malote_time(value bigint) RETURNS timestamptz LANGUAGE sql STABLE AS $$
    SELECT CASE WHEN value BETWEEN -62135596800000000 AND 253402300799999999
                THEN timestamptz 'epoch' + value * interval '1 microsecond' END
$$;
