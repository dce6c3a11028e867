//! The answers of an ingress, counted by source and day and reported to the ledger: the other side of the books.
//!
//! A tally is published like an event, after the events that it counts. It names the time zone of its days, so that it
//! stays correct when another one is configured.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use event::{Day, EventId, Message, Timestamp, Zone};
use serde::Serialize;

use crate::source_report::SourceReport;

/// What was answered to one source on one day of receipt.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub(crate) struct Counts {
    /// With 2xx: the events are stored.
    accepted: u64,
    /// With 400: the bodies are kept.
    rejected: u64,
}

/// One day's counts.
struct DayCounts {
    day: Day,
    end: Timestamp,
    counts: Counts,
}

/// The counts of one source, by the start of the day.
pub(crate) struct Tally {
    zone: Zone,
    days: Mutex<BTreeMap<Timestamp, DayCounts>>,
}

impl Tally {
    pub(crate) fn new(zone: Zone) -> Self {
        Self { zone, days: Mutex::default() }
    }

    fn days(&self) -> MutexGuard<'_, BTreeMap<Timestamp, DayCounts>> {
        self.days.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Counts an answer on its day. The day of a time is computed once per day, since every request needs it.
    fn count(&self, time: Timestamp, add: impl FnOnce(&mut Counts)) {
        let mut days = self.days();
        if let Some((_, found)) = days.range_mut(..=time).next_back()
            && time < found.end
        {
            return add(&mut found.counts);
        }
        let day = self.zone.day(time);
        let bounds = self.zone.bounds(day);
        let new = DayCounts { day, end: bounds.end, counts: Counts::default() };
        add(&mut days.entry(bounds.start).or_insert(new).counts);
    }

    pub(crate) fn accepted(&self, time: Timestamp) {
        self.count(time, |counts| counts.accepted += 1);
    }

    pub(crate) fn rejected(&self, time: Timestamp) {
        self.count(time, |counts| counts.rejected += 1);
    }

    /// The counts of each day.
    pub(crate) fn counts(&self) -> Vec<(Day, Counts)> {
        self.days().values().map(|found| (found.day, found.counts)).collect()
    }

    /// Forgets the days long before `now`: nothing is added to them, and they were reported.
    pub(crate) fn forget(&self, now: Timestamp) {
        let yesterday = self.zone.day(now).minus(1);
        self.days().retain(|_, found| found.day >= yesterday);
    }
}

/// One row of a report.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(crate) struct Row {
    pub(crate) source: String,
    pub(crate) day: Day,
    #[serde(flatten)]
    pub(crate) counts: Counts,
}

/// All that one run of an ingress has counted so far, and these sources.
pub(crate) fn report(run: EventId, zone: &Zone, rows: &[Row], sources: &[&SourceReport]) -> Message {
    let (zone, at) = (zone.name(), event::now());
    let body =
        serde_json::json!({"ingress": run, "zone": zone, "at": at, "counts": rows, "sources": sources});
    Message {
        message_id: EventId::generate().to_string(),
        r#type: "tally".to_owned(),
        timestamp: u64::try_from(event::now().as_second()).unwrap_or(0),
        content_type: "application/json".to_owned(),
        app_id: event::APP_ID.to_owned(),
        body: body.to_string().into(),
        ..Message::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_day_is_that_of_receipt_in_the_zone_and_the_day_before_is_kept() {
        let tally = Tally::new(Zone::default());
        let at = |text: &str| text.parse::<Timestamp>().unwrap();
        tally.accepted(at("2026-11-23T12:00:00Z"));
        tally.accepted(at("2026-11-23T02:59:59.9Z"));
        tally.accepted(at("2026-11-23T03:00:00Z"));
        tally.rejected(at("2026-11-24T02:59:59.9Z"));
        let day = |day: &str, accepted, rejected| (day.parse().unwrap(), Counts { accepted, rejected });
        assert_eq!(tally.counts(), [day("2026-11-22", 1, 0), day("2026-11-23", 2, 1)]);
        tally.forget(at("2026-11-24T02:59:59Z"));
        assert_eq!(tally.counts().len(), 2);
        tally.forget(at("2026-11-24T03:00:00Z"));
        assert_eq!(tally.counts(), [day("2026-11-23", 2, 1)]);
    }

    #[test]
    fn a_day_of_another_length_is_one_day() {
        let tally = Tally::new(Zone::new("Europe/Lisbon").unwrap());
        for hour in 0..25 {
            let begin: Timestamp = "2026-10-24T23:00:00Z".parse().unwrap();
            tally.accepted(begin + std::time::Duration::from_secs(hour * 3_600));
        }
        let counts = Counts { accepted: 25, rejected: 0 };
        assert_eq!(tally.counts(), [("2026-10-25".parse().unwrap(), counts)]);
    }
}
