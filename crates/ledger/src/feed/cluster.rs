//! What PostgreSQL says of its transactions: up to which the log can be read, which one holds it back, and whether the
//! numbers on record are of this cluster.
//!
//! A transaction is finished for every reader once its number is below that of the oldest one that is running. Tables that
//! were restored from a dump, or replicated, may have numbers that this cluster will give only later. No visible row can have
//! such a number otherwise. From then on, what is added to the numbers of new transactions keeps new events after those on
//! record, whose positions stay.

use event::Timestamp;
use store::many::fetch;
use store::{Connection, Dialect, Row, Store, StoreError, sql};

/// How far the log can be read.
#[derive(Clone, Copy, Debug)]
pub(super) struct Horizon {
    /// Every transaction below this number has ended.
    pub(super) below: i64,
    /// Whether events have numbers that this cluster has not given yet.
    pub(super) is_foreign: bool,
}

pub(super) async fn horizon(connection: &mut Connection) -> Result<Horizon, StoreError> {
    let text = "SELECT pg_snapshot_xmin(s.s)::text::bigint + f.shift, \
                CASE WHEN (SELECT max(written_in) FROM events) >= pg_snapshot_xmax(s.s)::text::bigint + f.shift \
                THEN 1 ELSE 0 END::bigint FROM feed_shift f, pg_current_snapshot() AS s(s)";
    let rows = fetch(connection, text.to_owned(), []).await?;
    let row = rows.first().ok_or(store::DriverError::RowNotFound)?;
    Ok(Horizon { below: row.try_get(0)?, is_foreign: row.try_get::<i64, _>(1)? == 1 })
}

/// Continues the log of another cluster: numbers from now on are greater than those on record. Events that this cluster has
/// recorded before come after those, too: their number is that of the transaction that the row is from.
pub(super) async fn adopt(store: &Store) -> Result<Horizon, StoreError> {
    let mut tx = store.begin_brief().await?;
    sql::query("LOCK TABLE events IN ACCESS EXCLUSIVE MODE").execute(&mut *tx).await?;
    // Another process may have been first.
    let before = horizon(&mut tx).await?;
    if before.is_foreign {
        let text = "SELECT f.shift, (SELECT max(written_in) FROM events) + 1 \
                    - pg_snapshot_xmin(pg_current_snapshot())::text::bigint FROM feed_shift f";
        let rows = fetch(&mut tx, text.to_owned(), []).await?;
        let (old, new): (i64, i64) = (rows[0].try_get(0)?, rows[0].try_get(1)?);
        let number = format!("(pg_current_xact_id()::text::bigint + {new})");
        for text in [
            format!(
                "UPDATE events SET written_in = {number} \
                 WHERE xmin::text::bigint = ((written_in - {old}) & 4294967295)"
            ),
            format!("ALTER TABLE events ALTER COLUMN written_in SET DEFAULT {number}"),
            format!("UPDATE feed_shift SET shift = {new}"),
        ] {
            sql::assembled(text).execute(&mut *tx).await?;
        }
        tracing::warn!(
            shift = new,
            "the events on record are of another PostgreSQL cluster: the feed continues after them"
        );
    }
    tx.commit().await.map_err(StoreError::from)?;
    horizon(&mut *store.read().await?).await
}

/// Continues the log of another cluster if the events on record are of one.
pub async fn prepare(store: &Store) -> Result<(), StoreError> {
    if store.dialect() == Dialect::Postgres && horizon(&mut *store.read().await?).await?.is_foreign {
        adopt(store).await?;
    }
    Ok(())
}

/// A transaction that holds back the feed: events are recorded that nobody can read yet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Held {
    /// Since when; unknown where another user's transactions may not be seen.
    pub since: Option<Timestamp>,
    /// The server process, or the name of a prepared transaction.
    pub holder: String,
    /// `application_name` of its client.
    pub application: String,
    /// Its database.
    pub database: String,
    /// The first word of its last statement, such as `INSERT`.
    pub statement: String,
}

/// The oldest transaction that has written something, in any database of the cluster.
const OLDEST: &str = "SELECT holder, application, database, statement, CAST(extract(epoch FROM since) * 1000000 AS BIGINT) AS since \
     FROM (SELECT 'process ' || pid AS holder, coalesce(application_name, '') AS application, \
     coalesce(datname::text, '') AS database, upper(split_part(ltrim(coalesce(query, '')), ' ', 1)) AS statement, \
     xact_start AS since, age(backend_xid) AS age FROM pg_stat_activity WHERE backend_xid IS NOT NULL \
     UNION ALL SELECT 'prepared transaction ' || gid, '', database::text, 'PREPARE', prepared, age(transaction) \
     FROM pg_prepared_xacts) t ORDER BY age DESC LIMIT 1";

/// Which transaction holds back the feed, if one does. On SQLite none can.
pub async fn held(store: &Store) -> Result<Option<Held>, StoreError> {
    if store.dialect() == Dialect::Sqlite {
        return Ok(None);
    }
    let mut connection = store.read().await?;
    let below = horizon(&mut connection).await?.below;
    // The greatest by index, whatever the planner expects: where none is held back, a search for one would read every event.
    let text = "SELECT 1 FROM (SELECT written_in FROM events ORDER BY written_in DESC LIMIT 1) e WHERE written_in >= $1"
        .to_owned();
    if fetch(&mut connection, text, [below.into()]).await?.is_empty() {
        return Ok(None);
    }
    let rows = fetch(&mut connection, OLDEST.to_owned(), []).await?;
    let Some(row) = rows.first() else { return Ok(None) };
    let since: Option<i64> = row.try_get("since")?;
    let text = |column| row.try_get::<String, _>(column);
    Ok(Some(Held {
        since: since.and_then(|since| Timestamp::from_microsecond(since).ok()),
        holder: text("holder")?,
        application: text("application")?,
        database: text("database")?,
        statement: text("statement")?,
    }))
}
