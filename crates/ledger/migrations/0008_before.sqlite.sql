CREATE TABLE origins (
    id       INTEGER PRIMARY KEY,
    source   TEXT NOT NULL,
    provider TEXT NOT NULL,
    topic    TEXT NOT NULL,
    UNIQUE (source, provider, topic)
);

