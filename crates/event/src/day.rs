//! Days of the configured time zone: the books, retention and domain dates agree on when a day begins.

use std::fmt;
use std::ops::Range;
use std::str::FromStr;

use jiff::civil::{Date, DateTime};
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

    /// A time on the clocks of the zone, with how far they are from UTC: `2026-11-22 13:01:34-03`, in UTC
    /// `2026-11-22 16:01:34Z`.
    pub fn clock(&self, time: Timestamp) -> String {
        let local = time.to_zoned(self.rules.clone());
        let minutes = local.offset().seconds() / 60;
        let (sign, hours) = (if minutes < 0 { '-' } else { '+' }, minutes.abs() / 60);
        let offset = match minutes.abs() % 60 {
            // Also `Etc/UTC`.
            _ if self.name.ends_with(UTC) => "Z".to_owned(),
            0 => format!("{sign}{hours:02}"),
            rest => format!("{sign}{hours:02}:{rest:02}"),
        };
        format!("{}{offset}", local.strftime("%Y-%m-%d %H:%M:%S"))
    }

    /// The time at which the clocks of the zone show this: the earlier one if they show it twice, so that a period from then on has
    /// both; and where they skip it, as long after the gap as it would have been.
    pub fn time(&self, shown: ClockTime) -> Timestamp {
        shown.0.to_zoned(self.rules.clone()).map_or(Timestamp::MAX, |local| local.timestamp())
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

/// A day and a time of day, as clocks show them: `2026-11-22 13:01` or `2026-11-22T13:01:34`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ClockTime(DateTime);

impl FromStr for ClockTime {
    type Err = NotADay;

    fn from_str(text: &str) -> Result<Self, NotADay> {
        let is_bare =
            text.contains([' ', 'T']) && text.len() >= "2026-11-22 13:01".len() && !text.contains(['[', 'Z']);
        let time = text.parse::<DateTime>().ok().filter(|_| is_bare);
        time.map(Self).ok_or_else(|| NotADay(text.to_owned()))
    }
}

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
    fn clocks_show_a_time_with_their_offset_and_it_is_found_from_what_they_show() {
        let time: Timestamp = "2026-11-22T16:01:34.5Z".parse().unwrap();
        let check = |zone: &str, expect: &str, shown: &str| {
            let zone = Zone::new(zone).unwrap();
            assert_eq!(zone.clock(time), expect);
            assert_eq!(zone.time(shown.parse().unwrap()).to_string(), "2026-11-22T16:01:00Z");
        };
        check("America/Sao_Paulo", "2026-11-22 13:01:34-03", "2026-11-22 13:01");
        check("Asia/Kolkata", "2026-11-22 21:31:34+05:30", "2026-11-22T21:31:00");
        check("Europe/London", "2026-11-22 16:01:34+00", "2026-11-22 16:01");
        check("UTC", "2026-11-22 16:01:34Z", "2026-11-22 16:01");
        check("Etc/UTC", "2026-11-22 16:01:34Z", "2026-11-22 16:01");
        let shown = |zone: &str, text: &str| Zone::new(zone).unwrap().time(text.parse().unwrap()).to_string();
        // Eleven came twice, and half past midnight never.
        assert_eq!(shown("America/Sao_Paulo", "2019-02-16 23:30"), "2019-02-17T01:30:00Z");
        assert_eq!(shown("America/Sao_Paulo", "2018-11-04 00:30"), "2018-11-04T03:30:00Z");
        for text in ["2026-11-22", "13:01", "2026-11-22T13:01Z", "2026-11-22T13:01[UTC]", ""] {
            assert!(text.parse::<ClockTime>().is_err(), "{text}");
        }
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
