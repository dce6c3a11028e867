//! The breaker of a target: slows down requests to one that fails, and finds out when it works again.
//!
//! Closed: requests are sent. Open, after several failures in a row: nothing is sent until the next probe is due, and what
//! comes waits. Half-open: one request is under way as a probe; its success closes the breaker, its failure
//! doubles the pause. A target that asks for a pause with `Retry-After` gets it, whatever the breaker's state.

use std::time::Duration;

use event::Timestamp;

/// So many failures in a row open the breaker.
const FAILURES: i64 = 10;

/// The pause before the first probe; it doubles.
const FIRST_PAUSE: Duration = Duration::from_secs(5);

/// The longest pause before a probe.
const LONGEST_PAUSE: Duration = Duration::from_secs(300);

/// Whether a request may be sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Permit {
    /// Yes.
    Go,
    /// Yes, one, as a probe.
    Probe,
    /// Not before this time.
    NotBefore(Timestamp),
    /// Not before the result of the probe.
    Probing,
}

/// The breaker of one target.
#[derive(Clone, Debug)]
pub struct Breaker {
    failures: i64,
    failing_since: Option<Timestamp>,
    /// The endpoint asked for a pause until then.
    asked_until: Option<Timestamp>,
    probe_at: Option<Timestamp>,
    is_probing: bool,
}

impl Breaker {
    /// A breaker as it was stored.
    pub fn new(failures: i64, failing_since: Option<Timestamp>, held_until: Option<Timestamp>) -> Self {
        // Without the time of the next probe, `held_until` may be either: the stricter one.
        Self { failures, failing_since, asked_until: held_until, probe_at: None, is_probing: false }
    }

    /// The same with the time of its next probe, as it was stored.
    #[must_use]
    pub fn with_probe_at(self, probe_at: Option<Timestamp>) -> Self {
        Self { probe_at, ..self }
    }

    /// Whether only probes are sent.
    pub fn is_open(&self) -> bool {
        self.failures >= FAILURES
    }

    /// Whether a request may be sent now. A probe counts as begun.
    pub fn permit(&mut self, now: Timestamp) -> Permit {
        match self.held_until() {
            Some(until) if now < until => Permit::NotBefore(until),
            _ if !self.is_open() => Permit::Go,
            _ if self.is_probing => Permit::Probing,
            _ => {
                self.is_probing = true;
                Permit::Probe
            }
        }
    }

    /// A probe was permitted, and there was nothing to send.
    pub fn no_probe(&mut self) {
        self.is_probing = false;
    }

    /// A request was answered as it should be.
    pub fn succeeded(&mut self) {
        let asked_until = self.asked_until;
        *self = Self { asked_until, ..Self::new(0, None, None) };
    }

    /// A request failed.
    pub fn failed(&mut self, now: Timestamp, is_probe: bool) {
        self.is_probing &= !is_probe;
        // Requests that were under way when it opened neither put off the probe nor lengthen the pause after it.
        if self.is_open() && !is_probe {
            return;
        }
        self.failures = self.failures.saturating_add(1);
        self.failing_since.get_or_insert(now);
        if self.is_open() {
            let doublings = u32::try_from(self.failures - FAILURES).unwrap_or(u32::MAX).min(16);
            self.probe_at = Some(now + (FIRST_PAUSE * 2_u32.pow(doublings)).min(LONGEST_PAUSE));
        }
    }

    /// The endpoint asked for a pause. Of several the longest counts.
    pub fn asked(&mut self, until: Timestamp, is_probe: bool) {
        self.is_probing &= !is_probe;
        self.asked_until = self.asked_until.max(Some(until));
    }

    /// Requests that failed in a row, without those that were under way when it opened.
    pub fn failures(&self) -> i64 {
        self.failures
    }

    /// Since when.
    pub fn failing_since(&self) -> Option<Timestamp> {
        self.failing_since
    }

    /// The endpoint asked for a pause until then.
    pub fn asked_until(&self) -> Option<Timestamp> {
        self.asked_until
    }

    /// When the next probe is due.
    pub fn probe_at(&self) -> Option<Timestamp> {
        self.probe_at
    }

    /// Before this time nothing is sent.
    pub fn held_until(&self) -> Option<Timestamp> {
        self.asked_until.max(self.probe_at)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: i64) -> Timestamp {
        Timestamp::from_second(1_800_000_000 + seconds).unwrap()
    }

    fn opened() -> Breaker {
        let mut breaker = Breaker::new(0, None, None);
        for _ in 0..FAILURES {
            assert_eq!(breaker.permit(at(0)), Permit::Go);
            breaker.failed(at(0), false);
        }
        breaker
    }

    #[test]
    fn it_opens_after_failures_in_a_row_and_a_success_closes_it() {
        let mut breaker = opened();
        assert_eq!(breaker.permit(at(4)), Permit::NotBefore(at(5)));
        assert_eq!(breaker.permit(at(5)), Permit::Probe);
        assert_eq!(breaker.permit(at(6)), Permit::Probing, "one at a time");
        breaker.succeeded();
        assert_eq!((breaker.permit(at(6)), breaker.failing_since()), (Permit::Go, None));
        for _ in 0..FAILURES {
            breaker.failed(at(7), false);
            breaker.succeeded();
        }
        assert!(!breaker.is_open(), "they were not in a row");
    }

    #[test]
    fn pauses_double_up_to_five_minutes_and_late_failures_do_not_lengthen_them() {
        let mut breaker = opened();
        for _ in 0..50 {
            breaker.failed(at(3), false);
        }
        assert_eq!(breaker.permit(at(3)), Permit::NotBefore(at(5)));
        let mut now = 5;
        for pause in [10, 20, 40, 80, 160, 300, 300] {
            assert_eq!(breaker.permit(at(now)), Permit::Probe);
            breaker.failed(at(now), true);
            assert_eq!(breaker.permit(at(now)), Permit::NotBefore(at(now + pause)));
            now += pause;
        }
        assert_eq!(breaker.failing_since(), Some(at(0)));
    }

    #[test]
    fn a_pause_that_was_asked_for_is_kept_whatever_else_succeeds_or_fails() {
        let mut breaker = Breaker::new(0, None, None);
        breaker.asked(at(60), false);
        breaker.asked(at(10), false);
        breaker.succeeded();
        assert_eq!(breaker.permit(at(59)), Permit::NotBefore(at(60)));
        assert_eq!(breaker.permit(at(60)), Permit::Go);
        let stored = Breaker::new(FAILURES, Some(at(0)), Some(at(100)));
        assert_eq!(stored.clone().permit(at(99)), Permit::NotBefore(at(100)));
        assert_eq!(stored.clone().permit(at(100)), Permit::Probe);
        let probed_later = Breaker::new(FAILURES, Some(at(0)), Some(at(10))).with_probe_at(Some(at(50)));
        assert_eq!(probed_later.clone().permit(at(49)), Permit::NotBefore(at(50)));
        assert_eq!((probed_later.asked_until(), probed_later.probe_at()), (Some(at(10)), Some(at(50))));
        let mut probing = stored;
        assert_eq!(probing.permit(at(100)), Permit::Probe);
        probing.asked(at(200), true);
        assert_eq!(probing.permit(at(200)), Permit::Probe, "the pause was the probe's answer");
    }
}
