//! How often a consumer tries an event, and after which delay each time: [`Policy::delay`] chooses it.

use std::time::Duration;

use serde::Deserialize;

use crate::{Bindings, RetryDelay};

/// By how much a wait is shortened at random, at most, unless configured otherwise.
const JITTER_PERCENT: u8 = 20;

/// What an operator changes of a consumer's policy.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PolicyChange {
    /// How often an event is tried in all, 1 or more.
    pub attempts: Option<u32>,
    /// The waits before the second attempt, the third, and so on. The last one repeats.
    pub delays: Option<Vec<RetryDelay>>,
    /// By how much each wait is shortened at random, at most, in per cent.
    pub jitter_percent: Option<u8>,
}

impl PolicyChange {
    /// What is wrong with it: the field, and what it has to be.
    pub fn mistakes(&self) -> Vec<(&'static str, &'static str)> {
        let is_descending = |delays: &Vec<RetryDelay>| !delays.is_sorted();
        let checks = [
            (self.attempts == Some(0), ("attempts", "expected a number of at least 1")),
            (
                self.delays.as_ref().is_some_and(Vec::is_empty),
                ("delays", "expected at least one; for no second attempt, set attempts to 1"),
            ),
            (
                self.delays.as_ref().is_some_and(is_descending),
                ("delays", "expected no delay to be shorter than the one before it"),
            ),
            (
                self.jitter_percent.is_some_and(|percent| percent > 100),
                ("jitter_percent", "expected a number from 0 to 100"),
            ),
        ];
        checks.into_iter().filter(|(is_wrong, _)| *is_wrong).map(|(_, mistake)| mistake).collect()
    }
}

/// A consumer's policy.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Policy {
    attempts: usize,
    delays: Vec<RetryDelay>,
    jitter_percent: u8,
}

impl Policy {
    /// One attempt, then one after each of these waits.
    pub(crate) fn declared(delays: &[RetryDelay]) -> Self {
        Self { attempts: delays.len() + 1, delays: delays.to_vec(), jitter_percent: JITTER_PERCENT }
    }

    /// What the consumer declares, as far as it is not configured.
    pub fn configured(bindings: &Bindings, change: Option<&PolicyChange>) -> Self {
        let declared = Self::declared(bindings.retry);
        let Some(change) = change else { return declared };
        let delays = change.delays.clone().unwrap_or(declared.delays);
        let attempts = match (change.attempts, &change.delays) {
            (Some(attempts), _) => usize::try_from(attempts).unwrap_or(usize::MAX),
            (None, Some(delays)) => delays.len() + 1,
            (None, None) => declared.attempts,
        };
        let jitter_percent = change.jitter_percent.unwrap_or(declared.jitter_percent);
        Self { attempts, delays, jitter_percent }
    }

    /// The wait after an attempt with `before` others before it; `None` where it was the last.
    pub(crate) fn delay(&self, before: usize) -> Option<RetryDelay> {
        if before + 1 >= self.attempts {
            return None;
        }
        self.delays.get(before).or(self.delays.last()).copied()
    }

    /// The maximum total wait of an event.
    pub fn total_wait(&self) -> Duration {
        let waits = self.attempts - 1;
        let listed: Duration = self.delays.iter().take(waits).map(|delay| delay.duration()).sum();
        let repeated = u32::try_from(waits.saturating_sub(self.delays.len())).unwrap_or(u32::MAX);
        let last = self.delays.last().map_or(Duration::ZERO, |delay| delay.duration());
        listed.saturating_add(last.saturating_mul(repeated))
    }

    /// The wait shortened at random; `None` for the whole wait. Messages leave a delay's queue at its head only, so one
    /// may wait for those in front of it, up to the whole wait.
    pub(crate) fn shortened(&self, delay: RetryDelay, random: u64) -> Option<Duration> {
        let whole = u64::try_from(delay.duration().as_millis()).expect("a day is few milliseconds");
        let most = whole * u64::from(self.jitter_percent) / 100;
        (most > 0).then(|| Duration::from_millis(whole - random % (most + 1)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::DEFAULT_RETRY;
    use RetryDelay::{H24, S1, S5};

    fn policy(change: PolicyChange) -> Policy {
        let bindings =
            Bindings { consumer: "orders", purpose: "", topics: &[], prefetch: 1, retry: DEFAULT_RETRY };
        Policy::configured(&bindings, Some(&change))
    }

    #[test]
    fn the_waits_of_an_event_add_up() {
        let check = |attempts, delays: &[RetryDelay], expect| {
            let change = PolicyChange { attempts, delays: Some(delays.to_vec()), ..PolicyChange::default() };
            assert_eq!(policy(change).total_wait().as_secs(), expect, "{attempts:?} {delays:?}");
        };
        check(None, &[S1, S5], 6);
        check(Some(1), &[S1, S5], 0);
        check(Some(2), &[S1, S5], 1);
        check(Some(5), &[S1, S5], 16);
        check(Some(u32::MAX), &[H24], (u64::from(u32::MAX) - 1) * 24 * 3_600);
    }

    #[test]
    fn waits_follow_the_list_and_the_last_repeats() {
        let waits = |change| {
            (0..12).map_while(|before| policy(PolicyChange::clone(&change)).delay(before)).collect::<Vec<_>>()
        };
        assert_eq!(waits(PolicyChange::default()), DEFAULT_RETRY);
        let delays = Some(vec![S1, S5]);
        assert_eq!(waits(PolicyChange { delays: delays.clone(), ..Default::default() }), [S1, S5]);
        assert_eq!(waits(PolicyChange { attempts: Some(5), delays, ..Default::default() }), [S1, S5, S5, S5]);
        assert_eq!(waits(PolicyChange { attempts: Some(1), ..Default::default() }), []);
        assert_eq!(waits(PolicyChange { attempts: Some(10), ..Default::default() }).last(), Some(&H24));
    }

    #[test]
    fn a_wait_is_shortened_by_no_more_than_its_share() {
        let check = |jitter_percent, random, expect: Option<u64>| {
            let policy = policy(PolicyChange { jitter_percent: Some(jitter_percent), ..Default::default() });
            assert_eq!(policy.shortened(S5, random), expect.map(Duration::from_millis));
        };
        check(0, u64::MAX, None);
        check(20, 0, Some(5_000));
        check(20, 1_000, Some(4_000));
        check(20, 1_001, Some(5_000));
        check(100, 5_000, Some(0));
    }

    #[test]
    fn a_policy_that_cannot_be_kept_is_told_by_field() {
        let check = |change: PolicyChange, expect: &[&str]| {
            let fields: Vec<_> = change.mistakes().into_iter().map(|(field, _)| field).collect();
            assert_eq!(fields, expect);
        };
        check(PolicyChange::default(), &[]);
        check(
            PolicyChange { attempts: Some(0), jitter_percent: Some(101), ..Default::default() },
            &["attempts", "jitter_percent"],
        );
        check(PolicyChange { delays: Some(vec![]), ..Default::default() }, &["delays"]);
        check(PolicyChange { delays: Some(vec![S5, S1]), ..Default::default() }, &["delays"]);
    }
}
