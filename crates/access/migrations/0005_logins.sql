-- Who has logged in to the console, one row for each name and way of logging in. Times are microseconds since 1970 UTC.
CREATE TABLE console_users (
    login           TEXT   NOT NULL, -- token or openid-connect
    name            TEXT   NOT NULL,
    role            TEXT   NOT NULL, -- that of the last log-in
    client          TEXT   NOT NULL, -- the address of the last log-in
    first_at        BIGINT NOT NULL,
    last_at         BIGINT NOT NULL,
    logins          BIGINT NOT NULL,
    PRIMARY KEY (login, name)
);
