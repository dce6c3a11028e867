//! Requests to addresses that belong to no source: counted per address, and the first to each is logged.
//!
//! Promises that log, metrics and memory do not grow with the number of addresses, which a stranger chooses: those
//! beyond the bounds are counted together. Only the beginning of an address is kept: the rest may contain a secret if a
//! sender mistypes it.

use std::collections::{BTreeMap, BTreeSet};
use std::mem;
use std::net::IpAddr;
use std::sync::{Mutex, MutexGuard, PoisonError};

use metrics::counter;
use tracing::warn;

/// How many addresses below `/webhooks` are counted separately: a mistake of a sender is most likely there.
const BELOW_WEBHOOKS: usize = 48;

/// How many other addresses are counted separately: most of them come from scanners.
const ELSEWHERE: usize = 16;

/// The longest part of a segment that is kept, in characters.
const SEGMENT_CHARS: usize = 40;

/// The common name of the addresses beyond the bounds.
const OTHERS: &str = "other";

/// The counts of misses.
#[derive(Default)]
pub(crate) struct Misses(Mutex<Table>);

#[derive(Default)]
struct Table {
    /// The requests to each address since the last summary, without the one that was logged at once.
    repeated: BTreeMap<String, u64>,
    /// The addresses in the metric since the start: a metric never loses a label.
    labels: BTreeSet<String>,
}

impl Misses {
    /// Counts a request to this path, and logs it if it is the first.
    pub(crate) fn count(&self, client: IpAddr, path: &str) {
        let address = beginning(path);
        let mut table = self.lock();
        let label = if has_room(&table.labels, &address) { address.clone() } else { OTHERS.to_owned() };
        table.labels.insert(label.clone());
        counter!("ingress_missed_addresses_total", "address" => label).increment(1);
        let address = if has_room(table.repeated.keys(), &address) { address } else { OTHERS.to_owned() };
        if let Some(repeated) = table.repeated.get_mut(&address) {
            *repeated += 1;
            return;
        }
        warn!(%client, %address, "refused: no source has this address");
        table.repeated.insert(address, 0);
    }

    /// Logs the requests after the first one to each address since the last summary, and starts a new period.
    pub(crate) fn summarise(&self) {
        let mut table = self.lock();
        // An address without further requests is replaced by another one.
        table.repeated.retain(|_, requests| *requests > 0);
        let repeated: Vec<_> = table
            .repeated
            .iter_mut()
            .map(|(address, requests)| (address.clone(), mem::take(requests)))
            .collect();
        drop(table);
        for (address, requests) in repeated {
            warn!(%address, requests, "refused more requests to an address that no source has");
        }
    }

    fn lock(&self) -> MutexGuard<'_, Table> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The first two segments of a path, up to the first character that the name of a source cannot contain. `…` stands for
/// what is left out.
fn beginning(path: &str) -> String {
    let mut address = String::new();
    let mut segments = path.split('/').filter(|segment| !segment.is_empty());
    for segment in segments.by_ref().take(2) {
        let is_plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
        let end = segment.find(|c| !is_plain(c)).unwrap_or(segment.len()).min(SEGMENT_CHARS);
        address.push('/');
        address.push_str(&segment[..end]);
        if end < segment.len() {
            address.push('…');
            return address;
        }
    }
    match segments.next() {
        Some(_) => address.push_str("/…"),
        None if address.is_empty() => address.push('/'),
        None => {}
    }
    address
}

/// Whether an address is one of the known ones or may become one.
fn has_room<'a>(known: impl IntoIterator<Item = &'a String>, address: &str) -> bool {
    let is_below = |address: &str| address.starts_with("/webhooks/");
    let is_webhook = is_below(address);
    let bound = if is_webhook { BELOW_WEBHOOKS } else { ELSEWHERE };
    let mut count = 0;
    for known in known {
        if known == address {
            return true;
        }
        count += usize::from(is_below(known) == is_webhook && known != OTHERS);
    }
    count < bound
}

#[cfg(test)]
mod tests {
    use super::*;

    fn repeated(misses: &Misses) -> Vec<(String, u64)> {
        misses.lock().repeated.iter().map(|(address, repeated)| (address.clone(), *repeated)).collect()
    }

    #[test]
    fn every_miss_is_counted_at_its_address() {
        let misses = Misses::default();
        let client = IpAddr::from([192, 0, 2, 1]);
        for path in ["/webhooks/nobody", "/webhooks/nobody", "/webhook/loja", "/webhooks/nobody", "/a b\u{7}"]
        {
            misses.count(client, path);
        }
        let expect = [("/a…", 0), ("/webhook/loja", 0), ("/webhooks/nobody", 2)];
        assert_eq!(repeated(&misses), expect.map(|(address, requests)| (address.to_owned(), requests)));
        misses.summarise();
        assert_eq!(repeated(&misses), [("/webhooks/nobody".to_owned(), 0)], "the others were quiet");
        misses.summarise();
        assert!(repeated(&misses).is_empty());
    }

    #[test]
    fn nothing_of_an_address_is_kept_but_its_beginning() {
        for (path, expect) in [
            ("/webhooks/go&token=SECRET", "/webhooks/go…"),
            ("/webhooks/go/SECRET", "/webhooks/go/…"),
            ("//webhooks//go;SECRET/x", "/webhooks/go…"),
            ("/webhooks/go%3Ftoken=SECRET", "/webhooks/go…"),
            ("/webhooks=SECRET/go", "/webhooks…"),
            ("/webhooks/goé", "/webhooks/go…"),
            ("/webhooks/go-1_x.y/", "/webhooks/go-1_x.y"),
            ("/", "/"),
        ] {
            assert_eq!(beginning(path), expect);
        }
    }

    #[test]
    fn an_address_has_its_place_again_after_a_scan() {
        let misses = Misses::default();
        let client = IpAddr::from([192, 0, 2, 1]);
        for number in 0..1_000 {
            misses.count(client, &format!("/webhooks/{number}"));
        }
        misses.summarise();
        misses.count(client, "/webhooks/nobody");
        assert!(misses.lock().repeated.contains_key("/webhooks/nobody"));
        assert_eq!(misses.lock().labels.len(), BELOW_WEBHOOKS + 1);
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
        assert!(repeated.iter().all(|(address, _)| address.chars().count() <= 2 * SEGMENT_CHARS + 3));
        let others = repeated.iter().find(|(address, _)| address == OTHERS).unwrap();
        assert_eq!(others.1 as usize, 2_001 - BELOW_WEBHOOKS - ELSEWHERE - 1);
    }
}
