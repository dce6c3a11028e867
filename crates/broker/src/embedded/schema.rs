//! The tables of the embedded broker's file.

/// What every file has from the start, beside [`MESSAGE`].
pub(super) const SCHEMA: &str = "
    CREATE TABLE exchange (
        name TEXT PRIMARY KEY,
        kind TEXT NOT NULL CHECK (kind IN ('fanout', 'direct', 'topic')),
        alternate TEXT
    ) WITHOUT ROWID;
    -- What queue N holds is in table queue_N, message by message. `handed_out` is the highest id that a consumer ever had.
    CREATE TABLE queue (
        number INTEGER PRIMARY KEY,
        name TEXT NOT NULL UNIQUE,
        delivery_limit INTEGER NOT NULL,
        message_ttl_ms INTEGER,
        dead_letter_exchange TEXT,
        length INTEGER NOT NULL DEFAULT 0,
        handed_out INTEGER NOT NULL DEFAULT 0
    );
    CREATE TABLE binding (
        exchange TEXT NOT NULL,
        kind TEXT NOT NULL CHECK (kind IN ('queue', 'exchange')),
        destination TEXT NOT NULL,
        routing_key TEXT NOT NULL,
        PRIMARY KEY (exchange, kind, destination, routing_key)
    ) WITHOUT ROWID;
";

/// What the queues have messages of.
pub(super) const MESSAGE: &str = "
    CREATE TABLE message (
        id INTEGER PRIMARY KEY,
        routing_key TEXT NOT NULL,
        -- As `properties` has them.
        properties BLOB NOT NULL,
        body BLOB NOT NULL
    );
";

/// The table of a queue.
pub(super) fn queue_table(number: i64) -> String {
    format!(
        "CREATE TABLE queue_{number} (
            id INTEGER PRIMARY KEY,
            -- How often it came back unsettled.
            deliveries INTEGER NOT NULL,
            -- Microseconds since 1970, in a queue with a time to live.
            expires_at INTEGER,
            message INTEGER NOT NULL
        );"
    )
}
