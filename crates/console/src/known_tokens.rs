//! The tokens that the store has the digests of, of one kind, with whose they are.
//!
//! The store is read at most once in [`PERIOD`] for tokens that are not known, however many strangers try some.

use std::collections::HashMap;
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use access::Digest;
use store::{Connection, Store, StoreError};
use tokio::sync::Mutex;
use tokio::time::{Instant, sleep_until};

/// How often the store is read for tokens that are not known.
const PERIOD: Duration = Duration::from_millis(200);

/// The tokens of one kind that this process knows. Clones share them.
#[derive(Clone, Default)]
pub(crate) struct KnownTokens(Arc<Known>);

#[derive(Default)]
struct Known {
    owners: RwLock<HashMap<Digest, String>>,
    /// When the store was read last.
    read: Mutex<Option<Instant>>,
}

impl KnownTokens {
    /// Whose token it is; `load` reads all tokens of the kind. A token that was removed or replaced is nobody's only once the
    /// caller has asked the store.
    pub(crate) async fn owner(
        &self,
        store: &Store,
        token: Digest,
        load: impl AsyncFnOnce(&mut Connection) -> Result<HashMap<Digest, String>, StoreError>,
    ) -> Result<Option<String>, StoreError> {
        let asked = Instant::now();
        if let Some(owner) = self.0.owner(token) {
            return Ok(Some(owner));
        }
        let mut read = self.0.read.lock().await;
        // Somebody else may have read the store while this waited.
        if read.is_none_or(|read| read < asked) {
            if let Some(read) = *read {
                sleep_until(read + PERIOD).await;
            }
            let begun = Instant::now();
            let known = load(&mut *store.read().await?).await?;
            *self.0.owners.write().unwrap_or_else(PoisonError::into_inner) = known;
            *read = Some(begun);
        }
        Ok(self.0.owner(token))
    }
}

impl Known {
    fn owner(&self, token: Digest) -> Option<String> {
        self.owners.read().unwrap_or_else(PoisonError::into_inner).get(&token).cloned()
    }
}
