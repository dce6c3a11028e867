//! The pull door: a service reads its events with a cursor that it moves itself.
//!
//! The store keeps how far the service says that it has come, and the digest of its token, never the token.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use access::{Digest, Fresh};
use event::SubscriptionName;
use ledger::feed::{Cursor, FeedError, Item, Reader};
use store::many::{Value, fetch};
use store::{Connection, Row, Store, StoreError};
use tokio::task::spawn_blocking;
use tokio::time::Instant;

use crate::table::{SubscriptionError, get};
use crate::{Expression, Input, is_delivered};

/// What the token of a pull subscription begins with, so that it can be told from other secrets.
const PREFIX: &str = "malote_pull_";

/// A new token.
pub fn new_token() -> Fresh {
    Fresh::generate(PREFIX)
}

/// The digest of what may be the token of a subscription; `None` for a text that cannot be one.
pub fn token_digest(presented: &[u8]) -> Option<Digest> {
    Digest::presented(PREFIX, presented)
}

/// The subscriptions that have a token, by its digest.
pub async fn tokens(connection: &mut Connection) -> Result<HashMap<Digest, String>, StoreError> {
    let text = "SELECT token, name FROM subscriptions WHERE token IS NOT NULL".to_owned();
    let rows = fetch(connection, text, []).await?;
    rows.iter().map(|row| Ok((Digest::read(row, 0)?, row.try_get(1)?))).collect()
}

/// Whether this is the token of the subscription now.
pub async fn is_token_of(
    connection: &mut Connection,
    name: &SubscriptionName,
    token: Digest,
) -> Result<bool, StoreError> {
    let text = "SELECT name FROM subscriptions WHERE name = $1 AND token = $2".to_owned();
    let rows = fetch(connection, text, [Value::from(name), Value::from(token.0.to_vec())]).await?;
    Ok(!rows.is_empty())
}

/// Stores how far the service has come, and gives what is stored then: a position before that one changes nothing.
pub async fn acknowledge(
    store: &Store,
    name: &SubscriptionName,
    cursor: Cursor,
) -> Result<Cursor, SubscriptionError> {
    loop {
        let known = get(store, name).await?.ok_or_else(|| SubscriptionError::Unknown(name.clone()))?;
        if known.cursor == cursor || known.cursor.is_after(&cursor) {
            return Ok(known.cursor);
        }
        let mut tx = store.begin().await?;
        // Neither a new version nor a move: the reader itself goes on.
        let text = "UPDATE subscriptions SET cursor = $2 WHERE id = $1 AND cursor = $3 RETURNING name";
        let values = [Value::from(known.id), Value::from(&cursor), Value::from(&known.cursor)];
        let is_stored = !fetch(&mut tx, text.to_owned(), values).await?.is_empty();
        tx.commit().await.map_err(StoreError::from)?;
        if is_stored {
            return Ok(cursor);
        }
        // Another reader was faster, or somebody has set the position.
    }
}

/// A reader of the feed that leaves out what its subscription does not deliver.
pub struct Filtered {
    reader: Reader,
    has_duplicates: bool,
    filter: Option<Arc<Expression>>,
}

impl Filtered {
    /// What a filter leaves of what the reader reads; without one, all but duplicates.
    pub fn new(reader: Reader, filter: Option<Expression>) -> Self {
        Self { reader, has_duplicates: false, filter: filter.map(Arc::new) }
    }

    /// All that the reader reads: the record has duplicates, too.
    pub fn everything(reader: Reader) -> Self {
        Self { reader, has_duplicates: true, filter: None }
    }

    /// How far it has read; events that it does not want are behind it, too.
    pub fn cursor(&self) -> Cursor {
        self.reader.cursor()
    }

    /// Whether the last reading got to the end of the feed, as it was then.
    pub fn is_end(&self) -> bool {
        self.reader.is_end()
    }

    /// Whether the process stops: the reader gets nothing any more.
    pub fn is_stopped(&self) -> bool {
        self.reader.is_stopped()
    }

    /// The next events, as [`Reader::next`] gives them, but not cancel safe. An event on which the filter fails is given: the
    /// service decides.
    pub async fn next(&mut self, limit: usize, wait: Duration) -> Result<Vec<Item>, FeedError> {
        let deadline = Instant::now() + wait;
        loop {
            let mut wanted =
                self.reader.next(limit, deadline.saturating_duration_since(Instant::now())).await?;
            wanted.retain(|item| self.has_duplicates || is_delivered(item.event()));
            if let Some(filter) = self.filter.clone().filter(|_| !wanted.is_empty()) {
                // Some expressions take long on some bodies.
                let filtered = spawn_blocking(move || {
                    wanted.retain(|item| filter.matches(&Input::new(item.event())).unwrap_or(true));
                    wanted
                });
                wanted = filtered.await.expect("an expression does not panic");
            }
            if !wanted.is_empty() || self.is_stopped() || Instant::now() >= deadline {
                return Ok(wanted);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{COMPONENT, Declaration, Seal, Secrets, Seek, add};

    #[tokio::test]
    async fn readers_that_acknowledge_at_once_end_at_the_furthest_position() {
        let (store, _folder) = store::fresh_sqlite!().await;
        store.migrate(&[ledger::COMPONENT, COMPONENT]).await.unwrap();
        let text = r#"{"name": "billing", "topics": ["recuperador:#"], "pull": {}}"#;
        let declaration: Declaration = serde_json::from_str(text).unwrap();
        let name = declaration.name.clone();
        let seal = Seal::without_key();
        add(&store, &seal, &declaration, &Secrets::default(), Seek::Beginning).await.unwrap();
        let cursor = |number: u32| format!("{number:x}.{}", "f".repeat(32)).parse::<Cursor>().unwrap();
        let readers = (1..=20).map(|number| {
            let (store, name, cursor) = (store.clone(), name.clone(), cursor(number));
            tokio::spawn(async move {
                // A transaction that was in the way is no answer.
                loop {
                    if let Ok(stored) = acknowledge(&store, &name, cursor).await {
                        return stored == cursor || stored.is_after(&cursor);
                    }
                }
            })
        });
        for reader in readers.collect::<Vec<_>>() {
            assert!(reader.await.unwrap(), "less is stored than was acknowledged");
        }
        assert_eq!(get(&store, &name).await.unwrap().unwrap().cursor, cursor(20));
        assert_eq!(acknowledge(&store, &name, cursor(3)).await.unwrap(), cursor(20));
    }
}
