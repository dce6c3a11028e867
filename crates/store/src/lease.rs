//! Leases: who does something that one process does at a time, and until when. The table has the name of the first that had one.
//!
//! Times of leases are those of [`clock`].

use event::Timestamp;

use crate::many::{Value, fetch};
use crate::{Connection, Dialect, Store, StoreError, Tx, time};

/// The clock of leases: that of the database, since the hosts of two replicas may disagree. SQLite has no other than this host's.
pub async fn clock(store: &Store) -> Result<Timestamp, StoreError> {
    if store.dialect() == Dialect::Sqlite {
        return Ok(event::now());
    }
    let text = "SELECT CAST(extract(epoch FROM clock_timestamp()) * 1000000 AS BIGINT) AS now".to_owned();
    time(&fetch(&mut *store.read().await?, text, []).await?[0], "now")
}

/// Whether this holder can take or extend a lease. Asked before [`take`], so that a holder that waits writes nothing.
pub async fn is_free(
    connection: &mut Connection,
    name: &str,
    holder: &str,
    now: Timestamp,
) -> Result<bool, StoreError> {
    let text = "SELECT 1 FROM outbox_lease WHERE name = $1 AND holder <> $2 AND lease_until >= $3".to_owned();
    Ok(fetch(connection, text, [Value::from(name), holder.into(), now.into()]).await?.is_empty())
}

/// Takes a lease, or extends it. False while another holder has it.
pub async fn take(
    tx: &mut Tx,
    name: &str,
    holder: &str,
    now: Timestamp,
    until: Timestamp,
) -> Result<bool, StoreError> {
    let text = "INSERT INTO outbox_lease (name, holder, lease_until) VALUES ($1, $2, $4) \
                ON CONFLICT (name) DO UPDATE SET holder = excluded.holder, lease_until = excluded.lease_until \
                WHERE outbox_lease.holder = excluded.holder OR outbox_lease.lease_until < $3 RETURNING holder";
    let values = [Value::from(name), holder.into(), now.into(), until.into()];
    Ok(!fetch(tx, text.to_owned(), values).await?.is_empty())
}

/// Locks a lease until the transaction ends. False if the holder does not have it: then it may change nothing.
pub async fn hold(tx: &mut Tx, name: &str, holder: &str) -> Result<bool, StoreError> {
    let text =
        "UPDATE outbox_lease SET holder = $2 WHERE name = $1 AND holder = $2 RETURNING holder".to_owned();
    Ok(!fetch(tx, text, [Value::from(name), holder.into()]).await?.is_empty())
}

/// Gives a lease back, for the next holder to take at once.
pub async fn release(tx: &mut Tx, name: &str, holder: &str) -> Result<(), StoreError> {
    let text = "UPDATE outbox_lease SET lease_until = 0 WHERE name = $1 AND holder = $2".to_owned();
    fetch(tx, text, [Value::from(name), holder.into()]).await?;
    Ok(())
}
