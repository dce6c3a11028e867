-- Who is logged in to the console. Neither the cookie nor the token is stored, only their SHA-256.
CREATE TABLE console_sessions (
    digest          BLOB   NOT NULL PRIMARY KEY,
    token           BLOB   NOT NULL,
    created_at      BIGINT NOT NULL,
    used_at         BIGINT NOT NULL
);
