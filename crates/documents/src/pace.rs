//! How fast the API of one source is asked: no faster than it allows, and hardly at all while it fails.

use event::Timestamp;
use outbound::{Breaker, Permit, RateLimit};

/// The pace of one source.
pub(crate) struct Pace {
    breaker: Breaker,
    /// How many requests may begin before the window ends.
    budget: Option<(u64, Timestamp)>,
    /// Requests in flight.
    in_flight: u64,
}

/// What an answer means for the requests after it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Health {
    /// The API works.
    Works,
    /// It failed.
    Fails,
    /// It asks to wait until then.
    Asks(Timestamp),
}

impl Pace {
    /// A pace as it was stored.
    pub(crate) fn new(breaker: Breaker) -> Self {
        Self { breaker, budget: None, in_flight: 0 }
    }

    /// Whether a request may begin now, and if it is a probe; otherwise when to ask again, if that depends on time.
    pub(crate) fn begin(&mut self, now: Timestamp) -> Result<bool, Option<Timestamp>> {
        if let Some((0, reset_at)) = self.budget.filter(|(_, reset_at)| now < *reset_at) {
            return Err(Some(reset_at));
        }
        let is_probe = match self.breaker.permit(now) {
            Permit::Go => false,
            Permit::Probe => true,
            Permit::Probing => return Err(None),
            Permit::NotBefore(time) => return Err(Some(time)),
        };
        if let Some((left, _)) = &mut self.budget {
            *left = left.saturating_sub(1);
        }
        self.in_flight += 1;
        Ok(is_probe)
    }

    /// A request has ended. Gives whether the API works again after a time in which it did not.
    pub(crate) fn ended(
        &mut self,
        health: Health,
        limit: Option<RateLimit>,
        is_probe: bool,
        now: Timestamp,
    ) -> bool {
        self.in_flight = self.in_flight.saturating_sub(1);
        if let Some(RateLimit { remaining, reset }) = limit
            && let Ok(reset_at) = now.checked_add(reset)
        {
            // What is in flight may not be counted yet, and answers may come in another order than they were given.
            let left = remaining.saturating_sub(self.in_flight);
            self.budget = Some(match self.budget.filter(|(_, known)| now < *known) {
                Some((known, known_reset_at)) => (left.min(known), known_reset_at.min(reset_at)),
                None => (left, reset_at),
            });
        }
        let was_open = self.breaker.is_open();
        match health {
            Health::Works => self.breaker.succeeded(),
            Health::Fails => self.breaker.failed(now, is_probe),
            Health::Asks(until) => self.breaker.asked(until, is_probe),
        }
        was_open && !self.breaker.is_open()
    }

    /// The state to store.
    pub(crate) fn breaker(&self) -> &Breaker {
        &self.breaker
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn at(seconds: i64) -> Timestamp {
        Timestamp::from_second(1_800_000_000 + seconds).unwrap()
    }

    fn limit(remaining: u64) -> Option<RateLimit> {
        Some(RateLimit { remaining, reset: Duration::from_secs(60) })
    }

    #[test]
    fn no_more_requests_begin_than_the_api_has_left() {
        let mut pace = Pace::new(Breaker::new(0, None, None));
        assert_eq!((pace.begin(at(0)), pace.begin(at(0))), (Ok(false), Ok(false)));
        pace.ended(Health::Works, limit(2), false, at(1));
        assert_eq!(pace.begin(at(1)), Ok(false), "two are left, and one is in flight");
        assert_eq!(pace.begin(at(2)), Err(Some(at(61))));
        pace.ended(Health::Works, None, false, at(3));
        assert_eq!(pace.begin(at(60)), Err(Some(at(61))), "an answer that does not say changes nothing");
        assert_eq!(pace.begin(at(61)), Ok(false));
    }

    #[test]
    fn an_answer_that_is_late_gives_back_nothing_of_the_window() {
        let mut pace = Pace::new(Breaker::new(0, None, None));
        assert_eq!((pace.begin(at(0)), pace.begin(at(0))), (Ok(false), Ok(false)));
        pace.ended(Health::Works, limit(0), false, at(1));
        pace.ended(Health::Works, limit(1), false, at(1));
        assert_eq!(pace.begin(at(2)), Err(Some(at(61))));
        assert_eq!(pace.begin(at(61)), Ok(false));
        pace.ended(Health::Works, limit(9), false, at(62));
        assert_eq!(pace.begin(at(62)), Ok(false), "the next window has its own");
    }

    #[test]
    fn an_api_that_fails_is_probed_and_works_again_once() {
        let mut pace = Pace::new(Breaker::new(0, None, None));
        for _ in 0..10 {
            assert_eq!(pace.begin(at(0)), Ok(false));
            assert!(!pace.ended(Health::Fails, None, false, at(0)));
        }
        assert!(pace.begin(at(1)).is_err());
        assert_eq!(pace.begin(at(5)), Ok(true));
        assert_eq!(pace.begin(at(5)), Err(None));
        assert!(pace.ended(Health::Works, None, true, at(6)));
        assert_eq!(pace.begin(at(6)), Ok(false));
        assert!(!pace.ended(Health::Asks(at(100)), None, false, at(7)));
        assert_eq!(pace.begin(at(7)), Err(Some(at(100))));
    }
}
