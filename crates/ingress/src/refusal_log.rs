//! The log of refused requests: the first of each client in full, the others as a count per minute.
//!
//! Promises that log and memory do not grow with the number of refused requests or clients, which a stranger chooses.
//! Clients beyond the bound are counted together. No client can hide a failure to store events: it is logged for every
//! sender.

use std::collections::HashMap;
use std::mem;
use std::net::IpAddr;
use std::sync::{Mutex, MutexGuard, PoisonError};

use event::Timestamp;
use providers::auth::Failed;
use server::Client;
use tracing::{error, warn};

use crate::source_report::RefusalReport;

/// How many clients and reasons are counted separately within a period.
const CLIENTS: usize = 128;

/// The refusals of one source.
#[derive(Default)]
pub(crate) struct RefusalLog(Mutex<Table>);

#[derive(Default)]
struct Table {
    /// How many came after the first.
    repeated: HashMap<(Client, &'static str), u64>,
    others: u64,
    /// How many failures of each reason came after the first.
    failures: HashMap<&'static str, u64>,
    /// The last request for each reason, of which there are few: when, and the mechanisms that it did not pass.
    last: HashMap<&'static str, (Timestamp, Option<Failed>)>,
}

impl RefusalLog {
    /// Counts a refusal. True if it must be logged: the first of this client for this reason after a period without.
    pub(crate) fn is_first(&self, client: IpAddr, reason: &'static str) -> bool {
        let mut table = self.lock();
        let is_full = table.repeated.len() >= CLIENTS;
        match table.repeated.get_mut(&(Client::new(client), reason)) {
            Some(count) => *count += 1,
            None if is_full => table.others += 1,
            None => {
                table.repeated.insert((Client::new(client), reason), 0);
                return true;
            }
        }
        false
    }

    /// Counts an event that was not stored. True if it must be logged: the first for this reason after a period
    /// without.
    pub(crate) fn is_first_failure(&self, reason: &'static str) -> bool {
        let mut table = self.lock();
        match table.failures.get_mut(reason) {
            Some(count) => *count += 1,
            None => return table.failures.insert(reason, 0).is_none(),
        }
        false
    }

    /// Keeps the last refusal for this reason.
    pub(crate) fn note(&self, reason: &'static str, failed: Option<Failed>, now: Timestamp) {
        self.lock().last.insert(reason, (now, failed));
    }

    /// The last refusal for each reason since the start of the process.
    pub(crate) fn last(&self) -> Vec<RefusalReport> {
        let report = |(reason, (at, failed)): (&&'static str, &(Timestamp, Option<Failed>))| {
            let failed = failed.map(|failed| failed.to_string()).filter(|failed| !failed.is_empty());
            RefusalReport { reason, failed, at: *at }
        };
        self.lock().last.iter().map(report).collect()
    }

    /// Logs the refusals after the first of each client since the last summary, and starts a new period.
    pub(crate) fn summarise(&self, source: &str) {
        let (mut repeated, others, failures) = {
            let mut table = self.lock();
            // Clients that continue stay known in the next period; those without a refusal are new again.
            table.repeated.retain(|_, count| *count > 0);
            let repeated: Vec<_> =
                table.repeated.iter_mut().map(|(key, count)| (*key, mem::take(count))).collect();
            table.failures.retain(|_, count| *count > 0);
            let failures: Vec<_> =
                table.failures.iter_mut().map(|(reason, count)| (*reason, mem::take(count))).collect();
            (repeated, mem::take(&mut table.others), failures)
        };
        for (reason, requests) in failures {
            error!(%source, requests, "more events could not be stored in the last minute: {reason}");
        }
        repeated.sort_by_key(|(_, count)| std::cmp::Reverse(*count));
        for ((client, reason), requests) in repeated {
            warn!(%source, %client, requests, "refused more requests of this client in the last minute: {reason}");
        }
        if others > 0 {
            warn!(%source, requests = others, "refused requests of other clients in the last minute");
        }
    }

    fn lock(&self) -> MutexGuard<'_, Table> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use std::io::{self, Write};
    use std::sync::Arc;

    use super::*;

    #[derive(Clone, Default)]
    struct Lines(Arc<Mutex<Vec<u8>>>);

    impl Write for Lines {
        fn write(&mut self, text: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap().write(text)
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    /// The contents of a summary.
    fn summary(log: &RefusalLog) -> Vec<String> {
        let lines = Lines::default();
        let writer = lines.clone();
        let subscriber = tracing_subscriber::fmt()
            .with_ansi(false)
            .without_time()
            .with_target(false)
            .with_writer(move || writer.clone())
            .finish();
        tracing::subscriber::with_default(subscriber, || log.summarise("go"));
        let text = String::from_utf8(lines.0.lock().unwrap().clone()).unwrap();
        text.lines().map(|line| line.trim().to_owned()).collect()
    }

    fn ip(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    #[test]
    fn the_first_refusal_of_a_client_is_logged_and_the_others_are_counted() {
        let log = RefusalLog::default();
        assert!(log.is_first(ip("203.0.113.9"), "not authenticated"));
        for _ in 0..1234 {
            assert!(!log.is_first(ip("::ffff:203.0.113.9"), "not authenticated"));
        }
        assert!(log.is_first(ip("203.0.113.9"), "not a POST"));
        assert!(log.is_first(ip("2001:db8::1"), "not authenticated"));
        assert!(!log.is_first(ip("2001:db8::2:1"), "not authenticated"));
        assert!(log.is_first(ip("2001:db8:0:1::1"), "not authenticated"));
        let line = |client: &str, requests: u64| {
            format!(
                "WARN refused more requests of this client in the last minute: not authenticated source=go \
                 client={client} requests={requests}"
            )
        };
        assert_eq!(summary(&log), [line("203.0.113.9", 1234), line("2001:db8::/64", 1)]);
        // A client without a refusal is new again, one that continued is not.
        assert!(!log.is_first(ip("203.0.113.9"), "not authenticated"));
        assert!(log.is_first(ip("203.0.113.9"), "not a POST"));
        assert_eq!(summary(&log), [line("203.0.113.9", 1)]);
        assert!(summary(&log).is_empty());
        assert!(log.is_first(ip("203.0.113.9"), "not authenticated"));
    }

    #[test]
    fn no_number_of_clients_hides_that_events_are_not_stored() {
        let log = RefusalLog::default();
        for number in 0..1_000u32 {
            log.is_first(IpAddr::from(number.to_be_bytes()), "not authenticated");
        }
        assert!(log.is_first_failure("not stored"));
        assert!(!log.is_first_failure("not stored"));
        assert!(log.is_first_failure("the disk is full"));
        let expect =
            "ERROR more events could not be stored in the last minute: not stored source=go requests=1";
        assert_eq!(summary(&log)[0], expect);
        assert!(!log.is_first_failure("not stored"));
        assert!(log.is_first_failure("the disk is full"));
    }

    #[test]
    fn clients_without_number_take_no_more_memory_than_the_bound() {
        let log = RefusalLog::default();
        let clients = (0..10_000u32).map(|number| IpAddr::from(number.to_be_bytes()));
        assert_eq!(clients.filter(|client| log.is_first(*client, "not authenticated")).count(), CLIENTS);
        assert_eq!(log.lock().repeated.len(), CLIENTS);
        let expect = format!(
            "WARN refused requests of other clients in the last minute source=go requests={}",
            10_000 - CLIENTS
        );
        assert_eq!(summary(&log), [expect]);
        assert!(log.lock().repeated.is_empty());
    }
}
