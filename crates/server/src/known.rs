//! Known clients: those that have authenticated a request. [`connections`](crate::connections) reserves a part of the port's
//! places for them, and counts all places.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use tokio::time::Instant;

use crate::client::Client;

/// How many clients are remembered; beyond that, the one whose proof is the oldest is forgotten. Strangers cannot push
/// anyone out.
const MOST_KNOWN: usize = 4096;

/// The known clients of a port, and when they were last noted.
#[derive(Default)]
pub(crate) struct Known(Mutex<HashMap<Client, Instant>>);

impl Known {
    /// Remembers a client that has authenticated a request.
    pub(crate) fn note(&self, client: Client, now: Instant) {
        let mut clients = self.lock();
        if clients.len() >= MOST_KNOWN
            && !clients.contains_key(&client)
            && let Some(oldest) = clients.iter().min_by_key(|(_, noted)| **noted).map(|(oldest, _)| *oldest)
        {
            clients.remove(&oldest);
        }
        clients.insert(client, now);
    }

    pub(crate) fn contains(&self, client: Client) -> bool {
        self.lock().contains_key(&client)
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<Client, Instant>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;
    use std::time::Duration;

    use super::*;

    #[test]
    fn the_client_whose_proof_is_the_oldest_is_forgotten() {
        let known = Known::default();
        let client = |n: usize| Client::new(Ipv4Addr::from(n as u32).into());
        let begin = Instant::now();
        for n in 0..MOST_KNOWN {
            known.note(client(n), begin + Duration::from_secs(n as u64));
        }
        known.note(client(0), begin + Duration::from_secs(5000));
        known.note(client(MOST_KNOWN), begin + Duration::from_secs(5001));
        assert!(
            known.contains(client(0)) && !known.contains(client(1)) && known.contains(client(MOST_KNOWN))
        );
        assert_eq!(known.lock().len(), MOST_KNOWN);
    }
}
