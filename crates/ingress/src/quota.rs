//! The quotas of a source: requests and bytes per second and per day, and bytes of rejected bodies per day.
//!
//! Promises that a source over its quota is told to retry (429) and after how long, and that refused requests do not
//! count. Only authenticated requests count, so a stranger cannot use up a quota. Each ingress counts on its own, from
//! its start.

use std::num::NonZeroU64;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use serde::Deserialize;

/// The configured quotas of a source; missing ones are unlimited.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Quota {
    /// Requests per second.
    pub requests_per_s: Option<NonZeroU64>,
    /// Bytes of bodies per second.
    pub bytes_per_s: Option<NonZeroU64>,
    /// Requests in 24 hours.
    pub requests_per_day: Option<NonZeroU64>,
    /// Bytes of bodies in 24 hours.
    pub bytes_per_day: Option<NonZeroU64>,
    /// Bytes of rejected bodies, which are kept, in 24 hours.
    pub rejected_bytes_per_day: Option<NonZeroU64>,
}

/// An exhausted quota.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("this source has used up its quota of {what}; retry later")]
pub(crate) struct UsedUp {
    what: &'static str,
    /// After how many seconds the source may send again.
    pub(crate) retry_after_s: u32,
}

const SECOND: Duration = Duration::from_secs(1);
const DAY: Duration = Duration::from_secs(24 * 60 * 60);

/// Refills evenly up to the quota of a period. A request is admitted while anything is left and may take more than
/// that, so that a body larger than the quota of a second is not refused forever; later ones wait until the excess is
/// refilled.
struct Bucket {
    what: &'static str,
    capacity: f64,
    per_second: f64,
    left: f64,
    filled_at: Instant,
}

impl Bucket {
    fn new(what: &'static str, limit: NonZeroU64, period: Duration, now: Instant) -> Self {
        let capacity = limit.get() as f64;
        Self { what, capacity, per_second: capacity / period.as_secs_f64(), left: capacity, filled_at: now }
    }

    fn give_back(&mut self, amount: f64) {
        self.left = (self.left + amount).min(self.capacity);
    }

    fn check(&mut self, now: Instant) -> Result<(), UsedUp> {
        let passed = now.saturating_duration_since(self.filled_at).as_secs_f64();
        self.left = (self.left + passed * self.per_second).min(self.capacity);
        self.filled_at = now;
        // At least one whole request or byte must be left.
        let missing = self.capacity.min(1.0) - self.left;
        if missing <= 0.0 {
            return Ok(());
        }
        Err(UsedUp { what: self.what, retry_after_s: (missing / self.per_second).ceil().max(1.0) as u32 })
    }
}

/// The running quotas of a source.
pub(crate) struct Quotas(Mutex<Buckets>);

struct Buckets {
    requests: Vec<Bucket>,
    bytes: Vec<Bucket>,
    rejected: Option<Bucket>,
}

impl Quotas {
    /// `None` if nothing is limited.
    pub(crate) fn new(quota: Quota, now: Instant) -> Option<Self> {
        if quota == Quota::default() {
            return None;
        }
        let bucket = |what, limit: Option<NonZeroU64>, period| Some(Bucket::new(what, limit?, period, now));
        Some(Self(Mutex::new(Buckets {
            requests: [
                bucket("requests per second", quota.requests_per_s, SECOND),
                bucket("requests per day", quota.requests_per_day, DAY),
            ]
            .into_iter()
            .flatten()
            .collect(),
            bytes: [
                bucket("bytes per second", quota.bytes_per_s, SECOND),
                bucket("bytes per day", quota.bytes_per_day, DAY),
            ]
            .into_iter()
            .flatten()
            .collect(),
            rejected: bucket("rejected bytes per day", quota.rejected_bytes_per_day, DAY),
        })))
    }

    /// Nothing panics while the lock is held, so a poisoned one still holds whole values.
    fn buckets(&self) -> MutexGuard<'_, Buckets> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Counts a request with a body of this many bytes.
    pub(crate) fn request(&self, bytes: usize, now: Instant) -> Result<(), UsedUp> {
        let Buckets { requests, bytes: by_bytes, .. } = &mut *self.buckets();
        for bucket in requests.iter_mut().chain(by_bytes.iter_mut()) {
            bucket.check(now)?;
        }
        requests.iter_mut().for_each(|bucket| bucket.left -= 1.0);
        by_bytes.iter_mut().for_each(|bucket| bucket.left -= bytes as f64);
        Ok(())
    }

    /// Gives back what a request took that was not stored.
    pub(crate) fn give_back(&self, bytes: usize) {
        let Buckets { requests, bytes: by_bytes, .. } = &mut *self.buckets();
        requests.iter_mut().for_each(|bucket| bucket.give_back(1.0));
        by_bytes.iter_mut().for_each(|bucket| bucket.give_back(bytes as f64));
    }

    /// Gives back what a rejected body took that was not kept.
    pub(crate) fn give_back_rejected(&self, bytes: usize) {
        self.buckets().rejected.iter_mut().for_each(|bucket| bucket.give_back(bytes as f64));
    }

    /// Counts a rejected body that is to be kept.
    pub(crate) fn rejected(&self, bytes: usize, now: Instant) -> Result<(), UsedUp> {
        let Some(bucket) = &mut self.buckets().rejected else { return Ok(()) };
        bucket.check(now)?;
        bucket.left -= bytes as f64;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn quota(text: &str) -> Quota {
        serde_json::from_str(text).unwrap()
    }

    #[test]
    fn what_is_not_limited_costs_nothing() {
        assert!(Quotas::new(Quota::default(), Instant::now()).is_none());
        assert!(serde_json::from_str::<Quota>(r#"{"requests_per_s": 0}"#).is_err());
    }

    #[test]
    fn requests_are_let_in_as_often_as_the_quota_says_and_told_when_to_come_again() {
        let start = Instant::now();
        let quotas = Quotas::new(quota(r#"{"requests_per_s": 2, "requests_per_day": 4}"#), start).unwrap();
        let at = |ms| start + Duration::from_millis(ms);
        let what = |result: Result<(), UsedUp>| result.map_err(|used| (used.what, used.retry_after_s));
        assert_eq!(what(quotas.request(10, at(0))), Ok(()));
        assert_eq!(what(quotas.request(10, at(0))), Ok(()));
        assert_eq!(what(quotas.request(10, at(0))), Err(("requests per second", 1)));
        // Refused requests did not count.
        assert_eq!(what(quotas.request(10, at(500))), Ok(()));
        assert_eq!(what(quotas.request(10, at(1_000))), Ok(()));
        let (what_for, seconds) = what(quotas.request(10, at(2_000))).unwrap_err();
        assert!(
            what_for == "requests per day" && (21_598..=21_599).contains(&seconds),
            "{what_for} {seconds}"
        );
        assert_eq!(what(quotas.request(10, at(21_601_000))), Ok(()));
    }

    #[test]
    fn a_body_larger_than_the_quota_is_taken_and_the_next_ones_make_up_for_it() {
        let start = Instant::now();
        let quotas = Quotas::new(quota(r#"{"bytes_per_s": 100}"#), start).unwrap();
        assert!(quotas.request(1_000, start).is_ok());
        assert_eq!(quotas.request(1, start).unwrap_err().retry_after_s, 10);
        assert!(quotas.request(1, start + Duration::from_secs(8)).is_err());
        assert!(quotas.request(1, start + Duration::from_secs(10)).is_ok());
    }

    #[test]
    fn rejected_bodies_have_a_quota_of_their_own() {
        let start = Instant::now();
        let quotas = Quotas::new(quota(r#"{"rejected_bytes_per_day": 100}"#), start).unwrap();
        assert!(quotas.request(1_000_000, start).is_ok());
        assert!(quotas.rejected(100, start).is_ok());
        assert!(quotas.rejected(1, start).is_err());
        assert!(quotas.request(1, start).is_ok());
    }
}
