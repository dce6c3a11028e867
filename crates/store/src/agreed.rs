//! What all processes of an installation have to share, such as a key: the fingerprint of each, as the first process set it.
//!
//! Holds no secret. A process compares its own with what is here, and decides what a difference means.

use event::Timestamp;
use sqlx::Row;

use crate::{Component, Connection, Migration, StoreError, Tx, many};

pub(crate) const COMPONENT: Component = Component {
    name: "agreed",
    migrations: &[Migration::portable(1, "agreed", include_str!("../migrations/0001_agreed.sql"))],
};

/// A fingerprint that is set.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Agreed {
    /// The fingerprint.
    pub fingerprint: String,
    /// The role that set it.
    pub set_by: String,
    /// When.
    pub set_at: Timestamp,
}

/// What is set under a name.
pub async fn agreed(connection: &mut Connection, name: &str) -> Result<Option<Agreed>, StoreError> {
    let text = "SELECT fingerprint, set_by, set_at FROM agreed WHERE name = $1".to_owned();
    let rows = many::fetch(connection, text, [name.into()]).await?;
    let Some(row) = rows.first() else { return Ok(None) };
    let set_at = Timestamp::from_microsecond(row.try_get("set_at")?).unwrap_or(Timestamp::MIN);
    Ok(Some(Agreed { fingerprint: row.try_get("fingerprint")?, set_by: row.try_get("set_by")?, set_at }))
}

/// Sets a fingerprint where none is set, or where `replaced` is. Of two processes that do so at once, one wins.
pub async fn set(
    tx: &mut Tx,
    name: &str,
    Agreed { fingerprint, set_by, set_at }: &Agreed,
    replaced: &str,
) -> Result<(), StoreError> {
    let text = "INSERT INTO agreed (name, fingerprint, set_by, set_at) VALUES ($1, $2, $3, $4) \
                ON CONFLICT (name) DO UPDATE SET fingerprint = excluded.fingerprint, set_by = excluded.set_by, \
                set_at = excluded.set_at WHERE agreed.fingerprint = $5";
    let values = [name.into(), fingerprint.into(), set_by.into(), (*set_at).into(), replaced.into()];
    many::fetch(tx, text.to_owned(), values).await?;
    Ok(())
}
