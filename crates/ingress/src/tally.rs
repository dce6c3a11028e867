//! What an ingress has answered, counted by source and day, and told to the ledger: the other side of the books.
//!
//! A tally is published like an event, after the events that it counts. Whoever reads it has been sent those before.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use event::{EventId, Message, Timestamp};
use serde::Serialize;

/// What was answered to one source on one day (UTC, of receipt).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub(crate) struct Counts {
    /// With 2xx: the events are stored.
    accepted: u64,
    /// With 400: the bodies are kept.
    rejected: u64,
}

/// The counts of one source, by days since 1970.
#[derive(Default)]
pub(crate) struct Tally(Mutex<BTreeMap<i64, Counts>>);

const DAY_S: i64 = 24 * 60 * 60;

impl Tally {
    fn days(&self) -> MutexGuard<'_, BTreeMap<i64, Counts>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn accepted(&self, time: Timestamp) {
        self.days().entry(time.as_second().div_euclid(DAY_S)).or_default().accepted += 1;
    }

    pub(crate) fn rejected(&self, time: Timestamp) {
        self.days().entry(time.as_second().div_euclid(DAY_S)).or_default().rejected += 1;
    }

    /// The counts of each day, as `YYYY-MM-DD`.
    pub(crate) fn counts(&self) -> Vec<(String, Counts)> {
        let day = |day: &i64| {
            let time = Timestamp::from_second(day * DAY_S).expect("the day of a time is in range");
            time.to_string().chars().take(10).collect()
        };
        self.days().iter().map(|(number, counts)| (day(number), *counts)).collect()
    }

    /// Forgets the days long before `now`: nothing is added to them, and they were told.
    pub(crate) fn forget(&self, now: Timestamp) {
        self.days().retain(|day, _| *day >= now.as_second().div_euclid(DAY_S) - 1);
    }
}

/// One row of a report.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(crate) struct Row {
    pub(crate) source: String,
    pub(crate) day: String,
    #[serde(flatten)]
    pub(crate) counts: Counts,
}

/// All that one run of an ingress has counted so far.
pub(crate) fn report(run: EventId, rows: &[Row]) -> Message {
    let body = serde_json::json!({"ingress": run, "counts": rows}).to_string();
    Message {
        message_id: EventId::generate().to_string(),
        r#type: "tally".to_owned(),
        timestamp: u64::try_from(event::now().as_second()).unwrap_or(0),
        content_type: "application/json".to_owned(),
        app_id: event::APP_ID.to_owned(),
        expiration: None,
        headers: BTreeMap::new(),
        body: body.into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_day_is_that_of_receipt_and_the_day_before_is_kept() {
        let tally = Tally::default();
        let at = |text: &str| text.parse::<Timestamp>().unwrap();
        tally.accepted(at("2026-11-22T23:59:59.9Z"));
        tally.accepted(at("2026-11-23T00:00:00Z"));
        tally.rejected(at("2026-11-23T12:00:00Z"));
        let day = |day: &str, accepted, rejected| (day.to_owned(), Counts { accepted, rejected });
        assert_eq!(tally.counts(), [day("2026-11-22", 1, 0), day("2026-11-23", 1, 1)]);
        tally.forget(at("2026-11-23T12:00:00Z"));
        assert_eq!(tally.counts().len(), 2);
        tally.forget(at("2026-11-24T00:00:00Z"));
        assert_eq!(tally.counts(), [day("2026-11-23", 1, 1)]);
    }
}
