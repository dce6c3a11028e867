-- Tokens of the administration API. The store keeps no token, only its SHA-256.
CREATE TABLE api_tokens (
    id              BLOB   NOT NULL PRIMARY KEY,
    name            TEXT   NOT NULL UNIQUE,
    -- viewer, operator or admin
    role            TEXT   NOT NULL,
    digest          BLOB   NOT NULL UNIQUE,
    created_at      BIGINT NOT NULL,
    created_by      TEXT   NOT NULL,
    expires_at      BIGINT,
    -- To the minute.
    used_at         BIGINT
);

-- Who has changed something or looked at a body. Never changed, deleted after `console.keep_audit_days`.
CREATE TABLE audit (
    id              BLOB   NOT NULL PRIMARY KEY,
    who             TEXT   NOT NULL,
    role            TEXT   NOT NULL,
    client          TEXT   NOT NULL,
    action          TEXT   NOT NULL,
    what            TEXT   NOT NULL,
    status          BIGINT NOT NULL
);

CREATE INDEX audit_by_who ON audit (who, id);
