//! Values of options as the command line takes them: counts, points in time, filters.

use std::str::FromStr;
use std::time::Duration;

use event::{ClockTime, Day, Timestamp, Zone};

use crate::local;

/// Why a value of an option cannot be used.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BadValue {
    /// Not a count.
    #[error("expected a whole number of at least 1")]
    Count,
    /// Not a point in time.
    #[error(
        "expected a time such as 2026-11-22T16:00:00Z or \"2026-11-22 13:00\", a day such as 2026-11-22, today or yesterday, \
         or how long ago, such as 30m, 2h or 7d"
    )]
    Moment,
    /// Not a filter.
    #[error("expected FIELD=VALUE")]
    Filter,
}

/// A count that is not 0.
pub fn at_least_one<N: FromStr + From<u8> + PartialOrd>(text: &str) -> Result<N, BadValue> {
    text.parse().ok().filter(|number| *number >= N::from(1)).ok_or(BadValue::Count)
}

/// A point in time as it is given.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Moment {
    /// That time.
    At(Timestamp),
    /// When the clocks of the person who asks show this.
    Clock(ClockTime),
    /// The begin of this day.
    Day(Day),
    /// The begin of the day that is so many days ago.
    DaysAgo(u32),
}

impl Moment {
    /// The time that is meant, with days of this zone.
    pub fn time(self, zone: &Zone) -> Timestamp {
        match self {
            Self::At(time) => time,
            Self::Clock(shown) => local::zone().time(shown),
            Self::Day(day) => zone.bounds(day).start,
            Self::DaysAgo(days) => zone.bounds(zone.day(event::now()).minus(days)).start,
        }
    }
}

/// A moment: RFC 3339, a time of the local clocks, a day (its beginning), or how long ago it was.
pub fn moment(text: &str) -> Result<Moment, BadValue> {
    let ago = || {
        let (number, unit) = text.split_at_checked(text.len().checked_sub(1)?)?;
        let seconds = match unit {
            "s" => 1,
            "m" => 60,
            "h" => 60 * 60,
            "d" => 24 * 60 * 60,
            _ => return None,
        };
        let ago = Duration::from_secs(number.parse::<u64>().ok()?.checked_mul(seconds)?);
        event::now().checked_sub(ago).ok()
    };
    let day = || match text {
        "today" => Some(Moment::DaysAgo(0)),
        "yesterday" => Some(Moment::DaysAgo(1)),
        text => text.parse().map(Moment::Day).ok(),
    };
    let at = text.parse().ok().or_else(ago).map(Moment::At);
    let clock = || text.parse().map(Moment::Clock).ok();
    at.or_else(day).or_else(clock).ok_or(BadValue::Moment)
}

/// A field of a list and the value that its rows have there.
pub fn filter(text: &str) -> Result<(String, String), BadValue> {
    let (field, value) = text.split_once('=').ok_or(BadValue::Filter)?;
    Ok((field.to_owned(), value.to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_moment_is_a_time_a_day_or_how_long_ago() {
        let zone = Zone::default();
        let check = |text: &str, expect: &str| {
            assert_eq!(moment(text).unwrap().time(&zone).to_string(), expect);
        };
        check("2026-11-22T16:00:00Z", "2026-11-22T16:00:00Z");
        check("2026-11-22T13:00:00-03:00", "2026-11-22T16:00:00Z");
        check("2026-11-22", "2026-11-22T03:00:00Z");
        for (text, seconds) in [("90s", 90), ("30m", 1800), ("2h", 7200), ("7d", 604_800)] {
            let ago = event::now().as_second() - moment(text).unwrap().time(&zone).as_second();
            assert!((seconds..=seconds + 1).contains(&ago), "{text}: {ago}");
        }
        let day = |text: &str| zone.day(moment(text).unwrap().time(&zone));
        assert_eq!((day("today"), day("yesterday")), (zone.day(event::now()), day("today").minus(1)));
        assert_eq!(moment("2026-11-22 13:00"), Ok(Moment::Clock("2026-11-22T13:00".parse().unwrap())));
        for text in ["", "h", "tomorrow", "2h ago", "2026-13-01", "-1h", "99999999999999999999d", "é"] {
            assert_eq!(moment(text), Err(BadValue::Moment), "{text}");
        }
    }
}
