//! Days of the configured time zone: the books, retention and domain dates agree on when a day begins.

use std::fmt;
use std::ops::Range;
use std::str::FromStr;

use jiff::civil::Date;
use jiff::tz::TimeZone;
use jiff::{Span, Timestamp};
use serde::{Deserialize, Serialize, Serializer};

/// A time zone of the IANA database. A day has 23, 24 or 25 hours in it.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub struct Zone {
    name: String,
    rules: TimeZone,
}

/// The zone of a tally without one, from a release before the setting.
pub const UTC: &str = "UTC";

impl Zone {
    /// The zone of this name, such as `America/Sao_Paulo`. Case does not matter: the name is kept as the database
    /// writes it.
    pub fn new(name: &str) -> Result<Self, NoSuchZone> {
        let unknown = || NoSuchZone(name.to_owned());
        let rules = TimeZone::get(name).map_err(|_| unknown())?;
        let name = rules.iana_name().ok_or_else(unknown)?.to_owned();
        Ok(Self { name, rules })
    }

    /// Its name in the database.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The day of a time.
    pub fn day(&self, time: Timestamp) -> Day {
        Day(self.rules.to_datetime(time).date())
    }

    /// The start of the day, and that of the next.
    pub fn bounds(&self, day: Day) -> Range<Timestamp> {
        let begin = |date: Date| {
            let begin = date.to_zoned(self.rules.clone()).and_then(|midnight| midnight.start_of_day());
            begin.map_or(Timestamp::MAX, |begin| begin.timestamp())
        };
        begin(day.0)..day.0.tomorrow().map_or(Timestamp::MAX, begin)
    }
}

impl Default for Zone {
    fn default() -> Self {
        Self::new("America/Sao_Paulo").expect("the time zone database is part of the program")
    }
}

impl TryFrom<String> for Zone {
    type Error = NoSuchZone;

    fn try_from(name: String) -> Result<Self, NoSuchZone> {
        Self::new(&name)
    }
}

/// A name that the time zone database does not have.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("expected a time zone such as America/Sao_Paulo or UTC, got {0:?}")]
pub struct NoSuchZone(String);

/// A calendar day, written `YYYY-MM-DD`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Day(Date);

impl Day {
    /// The day this many days earlier.
    pub fn minus(self, days: u32) -> Self {
        let before = self.0.checked_sub(Span::new().days(days.min(1_000_000)));
        // Four digits, whatever is subtracted.
        Self(before.unwrap_or(Date::MIN).max(jiff::civil::date(1, 1, 1)))
    }
}

impl fmt::Display for Day {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl Serialize for Day {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

/// A text that is not a day.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("expected a day such as 2026-11-24, got {0:?}")]
pub struct NotADay(String);

impl FromStr for Day {
    type Err = NotADay;

    fn from_str(text: &str) -> Result<Self, NotADay> {
        let date = text.parse::<Date>().ok().filter(|date| date.to_string() == text);
        date.map(Self).ok_or_else(|| NotADay(text.to_owned()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(zone: &str, day: &str, from: &str, to: &str, hours: i64) {
        let zone = Zone::new(zone).unwrap();
        let day: Day = day.parse().unwrap();
        let Range { start, end } = zone.bounds(day);
        assert_eq!((start.to_string().as_str(), end.to_string().as_str()), (from, to));
        assert_eq!(end.duration_since(start).as_hours(), hours);
        let microsecond = std::time::Duration::from_micros(1);
        assert_eq!((zone.day(start), zone.day(end - microsecond)), (day, day));
        assert!(zone.day(start - microsecond) < day && day < zone.day(end));
    }

    #[test]
    fn a_day_ends_where_the_next_begins_also_when_the_clocks_change() {
        check("America/Sao_Paulo", "2026-11-24", "2026-11-24T03:00:00Z", "2026-11-25T03:00:00Z", 24);
        // The clocks went from midnight to one o'clock, and later from midnight back to eleven.
        check("America/Sao_Paulo", "2018-11-04", "2018-11-04T03:00:00Z", "2018-11-05T02:00:00Z", 23);
        check("America/Sao_Paulo", "2019-02-16", "2019-02-16T02:00:00Z", "2019-02-17T03:00:00Z", 25);
        check("Europe/Lisbon", "2026-03-29", "2026-03-29T00:00:00Z", "2026-03-29T23:00:00Z", 23);
        check("Europe/Lisbon", "2026-10-25", "2026-10-24T23:00:00Z", "2026-10-26T00:00:00Z", 25);
        check("UTC", "2026-11-24", "2026-11-24T00:00:00Z", "2026-11-25T00:00:00Z", 24);
    }

    #[test]
    fn a_zone_and_a_day_are_written_in_one_way() {
        assert_eq!(Zone::default().name(), "America/Sao_Paulo");
        assert_eq!(Zone::new("america/sao_paulo"), Ok(Zone::default()));
        assert_eq!(Zone::new("utc").unwrap().name(), UTC);
        for name in ["", "Brasilia", "-03:00", "\0"] {
            assert!(Zone::new(name).is_err(), "{name}");
        }
        for text in ["", "today", "20261124", "2026-11-24T00:00:00Z", "2026-13-01", " 2026-11-24"] {
            assert!(text.parse::<Day>().is_err(), "{text}");
        }
        let day: Day = "2026-03-01".parse().unwrap();
        assert_eq!(day.minus(1).to_string(), "2026-02-28");
        assert_eq!(day.minus(u32::MAX).minus(u32::MAX).to_string().len(), 10);
    }
}
