//! The rows of the sources: who polls which, until when, and how it went.

use std::time::Duration;

use event::{SourceName, Timestamp};
use providers::Provider;
use store::many::{Value, fetch};
use store::{Dialect, Row, Store, StoreError, Tx};

use crate::config::Poll;

/// Who polls: one process.
pub(crate) type Owner = str;

/// What is known of a source when a poll of it begins.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Before {
    /// How many polls have failed in a row.
    pub(crate) failures: u32,
}

/// Whether a source is to be polled by the process that asks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Claim {
    /// Yes: it has the lease.
    Granted(Before),
    /// Not before this time.
    NotBefore(Timestamp),
}

/// How a poll ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct After {
    /// How many items the answers had.
    pub(crate) items: usize,
    /// Why it failed, if it did.
    pub(crate) failure: Option<String>,
    /// How many have failed in a row.
    pub(crate) failures: u32,
    /// When the next one is due.
    pub(crate) next_at: Timestamp,
    /// Before this time nothing is asked, since the API has said so.
    pub(crate) held_until: Option<Timestamp>,
}

/// A source that is configured, with how it is polled, if it is.
pub type Configured<'a> = (&'a SourceName, &'a Provider, Option<&'a Poll>);

/// Writes which sources there are. Those that are not configured any more are removed; one whose polling failed or was set
/// otherwise is due at once, unless its API has asked for a pause.
pub async fn register(store: &Store, sources: &[Configured<'_>]) -> Result<(), StoreError> {
    let mut tx = store.begin().await?;
    let mut names = Vec::new();
    for source in sources {
        write(&mut tx, source).await?;
        names.push(Value::from(source.0));
    }
    let kept: Vec<String> = (1..=names.len()).map(|number| format!("${number}")).collect();
    let text = match kept.is_empty() {
        true => "DELETE FROM sources".to_owned(),
        false => format!("DELETE FROM sources WHERE source NOT IN ({})", kept.join(", ")),
    };
    fetch(&mut tx, text, names).await?;
    if store.dialect() == Dialect::Sqlite {
        // It serves one process: a lease is that of one that was killed.
        fetch(&mut tx, "UPDATE sources SET lease_until = 0".to_owned(), []).await?;
    }
    Ok(tx.commit().await?)
}

/// Writes a source that is configured again; others stay as they are.
pub async fn restore(store: &Store, source: Configured<'_>) -> Result<(), StoreError> {
    let mut tx = store.begin().await?;
    write(&mut tx, &source).await?;
    Ok(tx.commit().await?)
}

async fn write(tx: &mut Tx, (name, provider, poll): &Configured<'_>) -> Result<(), StoreError> {
    let text = "INSERT INTO sources (source, provider, every_s, next_at, held_until, failures, lease_until) \
                VALUES ($1, $2, $3, 0, 0, 0, 0) ON CONFLICT (source) DO UPDATE SET provider = excluded.provider, \
                every_s = excluded.every_s, next_at = CASE WHEN sources.failures = 0 \
                AND sources.every_s = excluded.every_s THEN sources.next_at ELSE 0 END";
    let every = poll.map(|poll| i64::from(poll.every_s));
    fetch(tx, text.to_owned(), [name.into(), provider.name().into(), every.into()]).await?;
    Ok(())
}

/// Forgets a source that is not configured any more: no process polls it, until one has it again.
pub async fn forget(store: &Store, source: &SourceName) -> Result<(), StoreError> {
    let mut tx = store.begin().await?;
    fetch(&mut tx, "DELETE FROM sources WHERE source = $1".to_owned(), [source.into()]).await?;
    Ok(tx.commit().await?)
}

/// Has a source polled at once whose polling failed, unless its API has asked for a pause.
pub(crate) async fn hurry(store: &Store, source: &SourceName) -> Result<(), StoreError> {
    let mut tx = store.begin().await?;
    let text = "UPDATE sources SET next_at = 0 WHERE source = $1 AND failures > 0".to_owned();
    fetch(&mut tx, text, [source.into()]).await?;
    Ok(tx.commit().await?)
}

/// Takes the lease of a source for so long, if a poll is due and no other process has it.
pub(crate) async fn claim(
    store: &Store,
    source: &SourceName,
    owner: &Owner,
    now: Timestamp,
    lease: Duration,
) -> Result<Claim, StoreError> {
    // A process that waits writes nothing.
    let text = "SELECT next_at, held_until, lease_until FROM sources WHERE source = $1".to_owned();
    let rows = fetch(&mut *store.read().await?, text, [source.into()]).await?;
    let Some(row) = rows.first() else { return Ok(Claim::NotBefore(now + lease)) };
    let mut latest = 0;
    for column in ["next_at", "held_until", "lease_until"] {
        latest = row.try_get::<i64, _>(column)?.max(latest);
    }
    let due = Timestamp::from_microsecond(latest).unwrap_or(Timestamp::MAX);
    if due > now {
        return Ok(Claim::NotBefore(due));
    }
    let mut tx = store.begin().await?;
    let text = "UPDATE sources SET lease_owner = $2, lease_until = $3 WHERE source = $1 AND next_at <= $4 \
                AND held_until <= $4 AND lease_until <= $4 RETURNING failures";
    let values = [source.into(), owner.into(), (now + lease).into(), now.into()];
    let claimed = fetch(&mut tx, text.to_owned(), values).await?;
    tx.commit().await?;
    let Some(row) = claimed.first() else { return Ok(Claim::NotBefore(now + lease)) };
    let failures: i64 = row.try_get("failures")?;
    Ok(Claim::Granted(Before { failures: u32::try_from(failures).unwrap_or(u32::MAX) }))
}

/// Extends the lease; false if another process has it by now.
pub(crate) async fn extend(
    store: &Store,
    source: &SourceName,
    owner: &Owner,
    until: Timestamp,
) -> Result<bool, StoreError> {
    let mut tx = store.begin().await?;
    let text = "UPDATE sources SET lease_until = $3 WHERE source = $1 AND lease_owner = $2 RETURNING source";
    let kept = fetch(&mut tx, text.to_owned(), [source.into(), owner.into(), until.into()]).await?;
    tx.commit().await?;
    Ok(!kept.is_empty())
}

/// Writes how a poll ended, and gives the lease back. Nothing, if another process has it by now.
pub(crate) async fn settle(
    store: &Store,
    source: &SourceName,
    owner: &Owner,
    now: Timestamp,
    after: &After,
) -> Result<(), StoreError> {
    let mut tx = store.begin().await?;
    let text = "UPDATE sources SET next_at = $3, held_until = $4, polled_at = $5, items = $6, failures = $7, \
                failed_at = CASE WHEN $8 = '' THEN failed_at ELSE $5 END, \
                failure = CASE WHEN $8 = '' THEN NULL ELSE $8 END, lease_owner = NULL, lease_until = 0 \
                WHERE source = $1 AND lease_owner = $2";
    let held_until = after.held_until.map_or(0, Timestamp::as_microsecond);
    let values = [
        source.into(),
        owner.into(),
        after.next_at.into(),
        held_until.into(),
        now.into(),
        i64::try_from(after.items).unwrap_or(i64::MAX).into(),
        i64::from(after.failures).into(),
        after.failure.clone().unwrap_or_default().into(),
    ];
    fetch(&mut tx, text.to_owned(), values).await?;
    Ok(tx.commit().await?)
}

/// Gives the lease back without a result: the poll was cut off.
pub(crate) async fn release(store: &Store, source: &SourceName, owner: &Owner) -> Result<(), StoreError> {
    let mut tx = store.begin().await?;
    let text =
        "UPDATE sources SET lease_owner = NULL, lease_until = 0 WHERE source = $1 AND lease_owner = $2";
    fetch(&mut tx, text.to_owned(), [source.into(), owner.into()]).await?;
    Ok(tx.commit().await?)
}
