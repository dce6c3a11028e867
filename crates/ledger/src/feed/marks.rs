//! Marks: where the log ended at a time, so that a date is found without reading the log from its start.
//!
//! The order of the log is not that of receipt, so no index over the time of receipt says where the first event since a date is. But
//! what was recorded before a time was received before it. A date is looked for after the last mark that is older.

use std::time::Duration;

use event::Timestamp;
use store::many::{Value, fetch, insert};
use store::{Connection, Dialect, Row, StoreError};

use super::log::{Log, SQLITE_NUMBER};

/// How far apart marks are.
pub(crate) const PERIOD: Duration = Duration::from_secs(60);

/// By how much the clock of a process that receives events may be ahead of one that marks.
const AHEAD: Duration = Duration::from_secs(300);

/// Marks the present end, unless a mark is recent or nothing was recorded since. Marks before the first event are deleted.
pub(crate) async fn mark(log: &Log) -> Result<(), StoreError> {
    let Some(newest) = newest(log).await? else { return Ok(()) };
    let text = "SELECT at, number FROM feed_marks ORDER BY at DESC LIMIT 1".to_owned();
    let last = fetch(&mut *log.store.read().await?, text, []).await?;
    if let Some(last) = last.first() {
        let (at, marked): (i64, i64) = (last.try_get(0)?, last.try_get(1)?);
        if newest <= marked || at > (event::now() - PERIOD).as_microsecond() {
            return Ok(());
        }
    }
    let oldest = number(log, "min(written_in)", "ASC").await?.unwrap_or_default();
    // In this order: everything up to the end was recorded before the time is read.
    let end = log.end().await?;
    let row = vec![Value::from(event::now()), Value::from(end.number)];
    let mut tx = log.store.begin_brief().await?;
    insert(&mut tx, "feed_marks (at, number)", "ON CONFLICT (at) DO NOTHING", vec![row]).await?;
    fetch(&mut tx, "DELETE FROM feed_marks WHERE number < $1".to_owned(), [Value::from(oldest)]).await?;
    Ok(tx.commit().await?)
}

/// The number of the newest event, readable or not.
pub(crate) async fn newest(log: &Log) -> Result<Option<i64>, StoreError> {
    number(log, "max(written_in)", "DESC").await
}

/// The number of the first or the last event: an aggregate on PostgreSQL, an order on SQLite.
async fn number(log: &Log, aggregate: &str, order: &str) -> Result<Option<i64>, StoreError> {
    let text = match log.store.dialect() {
        Dialect::Postgres => format!("SELECT {aggregate} FROM events"),
        Dialect::Sqlite => format!("SELECT {SQLITE_NUMBER} FROM events e ORDER BY e.rowid {order} LIMIT 1"),
    };
    let rows = fetch(&mut *log.store.read().await?, text, []).await?;
    Ok(rows.first().map(|row| row.try_get(0)).transpose()?.flatten())
}

/// The number after which every event is that was received at this time or later; 0 if there is no mark before it.
pub(crate) async fn before(connection: &mut Connection, time: Timestamp) -> Result<i64, StoreError> {
    let latest = time.checked_sub(AHEAD).unwrap_or(Timestamp::MIN);
    let text = "SELECT number FROM feed_marks WHERE at <= $1 ORDER BY at DESC LIMIT 1".to_owned();
    let rows = fetch(connection, text, [Value::from(latest)]).await?;
    rows.first().map_or(Ok(0), |row| Ok(row.try_get(0)?))
}
