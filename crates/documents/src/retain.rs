//! Retention: what was fetched is deleted `documents.keep_days` after it was fetched or asked for last, gradually in the background.
//!
//! The row of a document that has versions stays, without anything of their content: the numbers of its versions go on, and they
//! are the order of facts for those who book them. What was booked of a document is up to its domain.

use std::io;
use std::time::Duration;

use event::{EventId, Timestamp};
use store::many::{Value, fetch};
use store::{AnyRow, Row, Store, StoreError, id};

use crate::archive::{ARCHIVE, Archive};

/// How many versions are deleted in one transaction.
const PART: i64 = 100;

/// What a row says whose newest version is deleted.
const DELETED: &str = "its content was deleted after documents.keep_days";

/// Why old documents are not deleted.
#[derive(Debug, thiserror::Error)]
pub(crate) enum NotDeleted {
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error("a file of the archive")]
    File(#[from] io::Error),
}

/// Deletes what is older than so many days. Gives how many versions are gone.
pub(crate) async fn sweep(
    store: &Store,
    archive: &Archive,
    keep_days: u32,
    now: Timestamp,
) -> Result<usize, NotDeleted> {
    let before = now - Duration::from_secs(u64::from(keep_days) * 86_400);
    let mut gone = 0;
    loop {
        let count = part(store, archive, before).await?;
        gone += count;
        if count == 0 {
            break;
        }
    }
    forget(store, before).await?;
    Ok(gone)
}

/// The condition that a version is old: it was fetched before then, and so was the last answer that confirmed it.
fn is_old(version: &str, document: &str) -> String {
    format!(
        "{version}.fetched_at < $1 AND NOT ({version}.version = {document}.version \
         AND ({document}.due_at IS NOT NULL OR {document}.checked_at >= $1))"
    )
}

/// A version to delete.
struct Old {
    document: EventId,
    version: i64,
    is_newest: bool,
    /// The hash of its file, if no other version needs that.
    unneeded_file: Option<String>,
}

fn read(row: &AnyRow) -> Result<Old, StoreError> {
    let (is_file, is_newest): (i64, i64) = (row.try_get("is_file")?, row.try_get("is_newest")?);
    let sha256: String = row.try_get("sha256")?;
    Ok(Old {
        document: id(row, "document")?,
        version: row.try_get("version")?,
        is_newest: is_newest == 1,
        unneeded_file: Some(sha256).filter(|_| is_file == 1),
    })
}

async fn part(store: &Store, archive: &Archive, before: Timestamp) -> Result<usize, NotDeleted> {
    // No file is archived meanwhile: nothing else can come to need one that is deleted.
    let _turn = store.exclusive(ARCHIVE).await?;
    let text = format!(
        "SELECT v.document, v.version, v.sha256, CASE WHEN v.body IS NULL AND NOT EXISTS (SELECT 1 FROM document_versions o \
         JOIN documents p ON p.id = o.document WHERE o.sha256 = v.sha256 AND o.body IS NULL AND NOT ({needed})) THEN 1 ELSE 0 END AS is_file, \
         CASE WHEN v.version = d.version THEN 1 ELSE 0 END AS is_newest \
         FROM document_versions v JOIN documents d ON d.id = v.document WHERE {} ORDER BY v.fetched_at LIMIT {PART}",
        is_old("v", "d"),
        needed = is_old("o", "p"),
    );
    let rows = fetch(&mut *store.read().await?, text, [before.into()]).await?;
    let mut versions = Vec::new();
    for row in &rows {
        let version = read(row)?;
        if let Some(sha256) = &version.unneeded_file {
            archive.remove(sha256).await?;
        }
        versions.push(version);
    }
    // After the files: a process that is killed in between finds the rows again.
    let mut tx = store.begin().await?;
    for Old { document, version, is_newest, .. } in &versions {
        let values = [Value::from(*document), (*version).into()];
        if *is_newest {
            let text = "UPDATE documents SET name = NULL, place = '', reason = $3 \
                        WHERE id = $1 AND version = $2 AND due_at IS NULL AND checked_at < $4 RETURNING id";
            let values = values.clone().into_iter().chain([DELETED.into(), before.into()]);
            if fetch(&mut tx, text.to_owned(), values).await?.is_empty() {
                // It was confirmed, or is asked for, since it was read.
                continue;
            }
        }
        let text = "DELETE FROM document_versions WHERE document = $1 AND version = $2".to_owned();
        fetch(&mut tx, text, values).await?;
    }
    tx.commit().await.map_err(StoreError::from)?;
    Ok(versions.len())
}

/// Deletes the rows of what was never fetched, and is not going to be.
async fn forget(store: &Store, before: Timestamp) -> Result<(), StoreError> {
    let mut tx = store.begin().await?;
    // A row that was never asked for is as old as the event that names it.
    let milliseconds = u64::try_from(before.as_millisecond()).unwrap_or_default();
    let mut oldest = [0; 16];
    oldest[..6].copy_from_slice(&milliseconds.to_be_bytes()[2..]);
    let text = "DELETE FROM documents WHERE version = 0 AND due_at IS NULL \
                AND (checked_at < $1 OR checked_at IS NULL AND asked_by < $2)";
    fetch(&mut tx, text.to_owned(), [before.into(), EventId::from_bytes(oldest).into()]).await?;
    Ok(tx.commit().await?)
}
