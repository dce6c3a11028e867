//! How long to wait before a retry: exponential, with jitter, without limit.
//!
//! Knows no clock; randomness is a parameter.

use std::hash::{BuildHasher, RandomState};
use std::time::Duration;

const SHORTEST: Duration = Duration::from_millis(100);
const LONGEST: Duration = Duration::from_secs(10);

/// The waits of one series of attempts.
#[derive(Debug, Default)]
pub(crate) struct Backoff {
    attempt: u32,
}

impl Backoff {
    /// The next wait: between half and the whole of 100 ms, 200 ms, 400 ms … 10 s, as `random` falls.
    pub(crate) fn next(&mut self, random: u64) -> Duration {
        let whole = SHORTEST.saturating_mul(1 << self.attempt.min(16)).min(LONGEST);
        self.attempt = self.attempt.saturating_add(1);
        let half = whole / 2;
        let span = u64::try_from(half.as_micros()).expect("ten seconds are few microseconds");
        half + Duration::from_micros(random % (span + 1))
    }

    /// The longest wait there is.
    pub(crate) const fn longest(&self) -> Duration {
        LONGEST
    }

    /// A number that differs between processes and calls.
    pub(crate) fn random() -> u64 {
        // The standard library seeds each hasher from the operating system's randomness.
        RandomState::new().hash_one(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_double_up_to_ten_seconds_and_never_end() {
        let mut backoff = Backoff::default();
        let waits: Vec<_> = (0..9).map(|_| backoff.next(0).as_millis()).collect();
        assert_eq!(waits, [50, 100, 200, 400, 800, 1600, 3200, 5000, 5000]);
        assert_eq!(Backoff { attempt: u32::MAX }.next(0), LONGEST / 2);
    }

    #[test]
    fn the_jitter_is_at_most_half_of_a_wait() {
        for random in [1, 49_999, 50_000, 50_001, u64::MAX, Backoff::random()] {
            let wait = Backoff::default().next(random);
            assert!((SHORTEST / 2..=SHORTEST).contains(&wait), "{random}: {wait:?}");
        }
    }
}
