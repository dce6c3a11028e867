//! Requests to addresses that no source has: counted per address, and the first to each logged.
//!
//! Promises that neither the log, the metrics nor the memory grows with the number of addresses, which a stranger
//! chooses: those beyond the bounds are counted together.

use std::collections::BTreeMap;
use std::mem;
use std::net::IpAddr;
use std::sync::{Mutex, MutexGuard, PoisonError};

use metrics::{Counter, counter};
use tracing::warn;

/// How many addresses below `/webhooks` are told apart: there a sender's mistake is most likely.
const BELOW_WEBHOOKS: usize = 48;

/// How many other addresses are told apart: most of them are a scanner's.
const ELSEWHERE: usize = 16;

/// The longest part of an address that is kept, in characters.
const ADDRESS_CHARS: usize = 100;

/// The name that the addresses beyond the bounds have in common.
const OTHERS: &str = "other";

/// What was asked for in vain since the start.
#[derive(Default)]
pub(crate) struct Misses(Mutex<BTreeMap<String, Missed>>);

struct Missed {
    counter: Counter,
    /// Requests since the last summary, without the one that was logged at once.
    repeated: u64,
}

impl Misses {
    /// Counts a request to this path, and logs it if it is the first.
    pub(crate) fn count(&self, client: IpAddr, path: &str) {
        // The path is the client's own. A query is never kept: it may hold a secret.
        let address: String =
            path.chars().take(ADDRESS_CHARS).map(|c| if c.is_ascii_graphic() { c } else { '?' }).collect();
        let mut missed = self.lock();
        let is_below = |address: &str| address.trim_start_matches('/').starts_with("webhooks/");
        let is_webhook = is_below(&address);
        let bound = if is_webhook { BELOW_WEBHOOKS } else { ELSEWHERE };
        let known = missed.keys().filter(|known| is_below(known) == is_webhook && *known != OTHERS).count();
        let address =
            if missed.contains_key(&address) || known < bound { address } else { OTHERS.to_owned() };
        if let Some(missed) = missed.get_mut(&address) {
            missed.counter.increment(1);
            missed.repeated += 1;
            return;
        }
        warn!(%client, %address, "refused: no source has this address");
        let counter = counter!("ingress_missed_addresses_total", "address" => address.clone());
        counter.increment(1);
        missed.insert(address, Missed { counter, repeated: 0 });
    }

    /// Logs what came after the first request to each address since the last summary.
    pub(crate) fn summarise(&self) {
        let repeated: Vec<(String, u64)> = self
            .lock()
            .iter_mut()
            .map(|(address, missed)| (address.clone(), mem::take(&mut missed.repeated)))
            .filter(|(_, requests)| *requests > 0)
            .collect();
        for (address, requests) in repeated {
            warn!(%address, requests, "refused more requests to an address that no source has");
        }
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<String, Missed>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn repeated(misses: &Misses) -> Vec<(String, u64)> {
        misses.lock().iter().map(|(address, missed)| (address.clone(), missed.repeated)).collect()
    }

    #[test]
    fn every_miss_is_counted_at_its_address() {
        let misses = Misses::default();
        let client = IpAddr::from([192, 0, 2, 1]);
        for path in ["/webhooks/nobody", "/webhooks/nobody", "/webhook/loja", "/webhooks/nobody", "/a b\u{7}"]
        {
            misses.count(client, path);
        }
        let expect = [("/a?b?", 0), ("/webhook/loja", 0), ("/webhooks/nobody", 2)];
        assert_eq!(repeated(&misses), expect.map(|(address, requests)| (address.to_owned(), requests)));
        misses.summarise();
        assert!(repeated(&misses).iter().all(|(_, requests)| *requests == 0));
    }

    #[test]
    fn addresses_without_number_take_no_more_memory_than_the_bounds() {
        let misses = Misses::default();
        let client = IpAddr::from([192, 0, 2, 1]);
        for number in 0..1_000 {
            misses.count(client, &format!("/{number}{}", "x".repeat(500)));
        }
        misses.count(client, "/webhooks/nobody");
        for number in 0..1_000 {
            misses.count(client, &format!("/webhooks/{number}"));
        }
        let repeated = repeated(&misses);
        assert_eq!(repeated.len(), BELOW_WEBHOOKS + ELSEWHERE + 1);
        assert!(repeated.iter().all(|(address, _)| address.len() <= ADDRESS_CHARS));
        let others = repeated.iter().find(|(address, _)| address == OTHERS).unwrap();
        assert_eq!(others.1 as usize, 2_001 - BELOW_WEBHOOKS - ELSEWHERE - 1);
    }
}
