//! How the push door is doing, for `malote doctor`.

use store::many::{Value, fetch};
use store::{Row, Store, StoreError, lease};

use crate::{State, Subscription, table, views};

/// The push subscriptions of an installation.
#[derive(Debug)]
pub struct Summary {
    /// How many there are.
    pub count: usize,
    /// Those that do not deliver now, each with how many events it has still to get.
    pub in_trouble: Vec<(Subscription, i64)>,
    /// Whether a replica of the role runs.
    pub is_delivered: bool,
    /// How many events are undelivered.
    pub undelivered: i64,
}

/// Whether a replica of the role runs. Where there are no push and no queue subscriptions, none is seen.
pub async fn is_running(store: &Store) -> Result<bool, StoreError> {
    let now = lease::clock(store).await?;
    let text = "SELECT 1 FROM push_replicas WHERE alive_until >= $1 LIMIT 1".to_owned();
    Ok(!fetch(&mut *store.read().await?, text, [Value::from(now)]).await?.is_empty())
}

/// Reads it.
pub async fn summary(store: &Store) -> Result<Summary, StoreError> {
    let mut subscriptions = table::list(store).await?;
    subscriptions.retain(|one| one.declaration.push.is_some());
    let is_delivered = is_running(store).await?;
    let mut connection = store.read().await?;
    let text = "SELECT count(*) FROM deliveries WHERE due_at IS NULL".to_owned();
    let undelivered = fetch(&mut connection, text, []).await?[0].try_get(0)?;
    let count = subscriptions.len();
    let mut in_trouble = Vec::new();
    for one in subscriptions.into_iter().filter(|one| one.state != State::Active) {
        let lag = views::lag(&mut connection, &one).await?;
        in_trouble.push((one, lag));
    }
    Ok(Summary { count, in_trouble, is_delivered, undelivered })
}
