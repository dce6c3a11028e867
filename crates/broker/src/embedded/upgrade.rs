//! Upgrades a file of an earlier version, in the transaction that sets its new version.

use std::collections::BTreeSet;
use std::path::Path;

use rusqlite::{Connection, params};

use super::OpenError;
use super::schema::{MESSAGE, queue_table};
use crate::Layout;
use crate::layout::RetryDelay;

const DIRECT_EXCHANGES: &str = "
    ALTER TABLE exchange RENAME TO exchange_1;
    CREATE TABLE exchange (
        name TEXT PRIMARY KEY,
        kind TEXT NOT NULL CHECK (kind IN ('fanout', 'direct', 'topic')),
        alternate TEXT
    ) WITHOUT ROWID;
    INSERT INTO exchange (name, kind, alternate) SELECT name, kind, alternate FROM exchange_1;
    DROP TABLE exchange_1;
";

/// The free disk space that an upgrade needs for so many bytes in use. Measured: the log takes up to 2.05 times as many, and
/// the file grows by up to 1.04 times.
pub(super) fn needed_bytes(used: u64) -> u64 {
    used.saturating_mul(13) / 4
}

/// Refuses an upgrade that the disk has no room for. Unreported space is taken to be enough.
pub(super) fn require_room(file: &Path, needed: u64, available: Option<u64>) -> Result<(), OpenError> {
    match available {
        Some(available) if available < needed => {
            Err(OpenError::Room { path: file.to_owned(), needed, available })
        }
        _ => Ok(()),
    }
}

/// Version 1 had no direct exchanges: its retry queues dead-lettered to the default exchange. They become the current
/// ones with their messages. `requeue` is created at once, since messages may be due at this start.
pub(super) fn from_1(connection: &Connection) -> rusqlite::Result<()> {
    connection.execute_batch(DIRECT_EXCHANGES)?;
    let mut prefixes = BTreeSet::new();
    for delay in RetryDelay::ALL {
        let mut statement = connection
            .prepare("SELECT name FROM queue WHERE dead_letter_exchange = '' AND message_ttl_ms = ?1")?;
        let ttl_ms = i64::try_from(delay.duration().as_millis()).unwrap_or(i64::MAX);
        let names = statement.query_map([ttl_ms], |row| row.get::<_, String>(0))?;
        for name in names.collect::<rusqlite::Result<Vec<_>>>()? {
            let Some(prefix) = name.strip_suffix(Layout::new("").former_retry(delay).0.as_str()) else {
                continue;
            };
            let layout = Layout::new(prefix);
            let wait = layout.retry_queue(delay);
            connection.execute(
                "UPDATE queue SET name = ?2, dead_letter_exchange = ?3 WHERE name = ?1",
                params![name, wait.as_str(), layout.requeue().as_str()],
            )?;
            connection
                .execute("UPDATE exchange SET name = ?2 WHERE name = ?1", params![name, wait.as_str()])?;
            connection.execute(
                "UPDATE binding SET exchange = ?2, destination = ?2 WHERE exchange = ?1 AND destination = ?1",
                params![name, wait.as_str()],
            )?;
            prefixes.insert(prefix.to_owned());
        }
    }
    for prefix in prefixes {
        let layout = Layout::new(prefix.as_str());
        connection.execute(
            "INSERT INTO exchange (name, kind, alternate) VALUES (?1, 'direct', ?2)",
            [layout.requeue().as_str(), layout.dead().as_str()],
        )?;
        connection.execute(
            "INSERT INTO binding (exchange, kind, destination, routing_key) SELECT ?1, 'queue', name, name \
             FROM queue WHERE message_ttl_ms IS NULL AND substr(name, 1, length(?2)) = ?2",
            [layout.requeue().as_str(), prefix.as_str()],
        )?;
    }
    Ok(())
}

/// Version 2 stored a message in every queue that it was in. Each of these becomes a message of its own.
pub(super) fn from_2(connection: &Connection) -> rusqlite::Result<()> {
    connection.execute_batch(MESSAGE)?;
    let mut statement = connection.prepare("SELECT number FROM queue")?;
    let numbers = statement.query_map([], |row| row.get::<_, i64>(0))?;
    for number in numbers.collect::<rusqlite::Result<Vec<_>>>()? {
        let table = queue_table(number);
        let highest: i64 =
            connection.query_row("SELECT ifnull(max(id), 0) FROM message", [], |row| row.get(0))?;
        connection.execute_batch(&format!(
            "ALTER TABLE queue_{number} RENAME TO former;
             {table}
             INSERT INTO message (id, routing_key, properties, body)
                 SELECT id + {highest}, routing_key, properties, body FROM former ORDER BY id;
             INSERT INTO queue_{number} (id, deliveries, expires_at, message)
                 SELECT id, deliveries, expires_at, id + {highest} FROM former ORDER BY id;
             DROP TABLE former;"
        ))?;
    }
    Ok(())
}
