//! Moves SQLite's log into the file while the writer goes on.
//!
//! A checkpoint takes tens of milliseconds of reading, writing and `fsync`, for which every transaction would wait. The task runs
//! it on a connection for reading. What is written meanwhile is left for the writer, after which the log begins again from its start.

use std::time::Duration;

use sqlx::{AnyPool, Row};
use tokio::sync::watch;
use tokio::time::sleep;

use crate::{StoreError, sql};

/// The log is moved when it has this many pages of 4 KiB: pages that many transactions change are then written once.
const CHECKPOINT_PAGES: i64 = 4_000;

/// Fewer than these are not worth an `fsync`.
const LEAST_PAGES: i64 = 500;

/// How often the log is looked at while transactions are begun.
const PAUSE: Duration = Duration::from_millis(50);

/// Starts the task. It looks at the log when a transaction is reported through the channel. It ends with the store.
pub(crate) fn spawn(readers: AnyPool) -> watch::Sender<()> {
    let (begun, mut transactions) = watch::channel(());
    tokio::spawn(async move {
        while transactions.changed().await.is_ok() && !readers.is_closed() {
            // Where it fails, the log stays as it is for now, and the writer finds out why.
            let _ = checkpoint(&readers).await;
            sleep(PAUSE).await;
        }
    });
    begun
}

async fn checkpoint(readers: &AnyPool) -> Result<(), StoreError> {
    let mut connection = readers.acquire().await?;
    let log = sql::query("PRAGMA wal_checkpoint(NOOP)").fetch_one(&mut *connection).await?;
    let (pages, moved): (i64, i64) = (log.try_get(1)?, log.try_get(2)?);
    if pages >= CHECKPOINT_PAGES && pages - moved >= LEAST_PAGES {
        sql::query("PRAGMA wal_checkpoint(PASSIVE)").execute(&mut *connection).await?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Config, Store};

    #[tokio::test]
    async fn a_long_log_is_moved_without_the_writer() {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::open(&Config::new("sqlite"), folder.path()).unwrap();
        let mut tx = store.begin().await.unwrap();
        // Longer than what the task leaves, and shorter than what the writer leaves.
        for text in ["CREATE TABLE thing (bytes BLOB)", "INSERT INTO thing VALUES (zeroblob(4500 * 4096))"] {
            sql::query(text).execute(&mut *tx).await.unwrap();
        }
        tx.commit().await.unwrap();
        for _ in 0..1_000 {
            store.begin().await.unwrap().rollback().await.unwrap();
            let mut connection = store.read().await.unwrap();
            let question = "PRAGMA wal_checkpoint(NOOP)";
            let log = sql::query(question).fetch_one(&mut *connection).await.unwrap();
            let (pages, moved): (i64, i64) = (log.get(1), log.get(2));
            assert!(pages >= CHECKPOINT_PAGES, "{pages}");
            if moved == pages {
                return;
            }
            sleep(Duration::from_millis(10)).await;
        }
        panic!("the log is not moved");
    }
}
