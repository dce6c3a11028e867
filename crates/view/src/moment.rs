//! Points in time as people give them.

use std::str::FromStr;
use std::time::Duration;

use event::{ClockTime, Day, Timestamp, Zone};

/// A point in time as it is given: RFC 3339, a time of clocks, a day (its beginning), or how long ago it was.
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

/// The text is no point in time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "expected a time such as 2026-11-22T16:00:00Z or \"2026-11-22 13:00\", a day such as 2026-11-22, today or yesterday, \
     or how long ago, such as 30m, 2h or 7d"
)]
pub struct NotAMoment;

impl Moment {
    /// The time that is meant, with days of one zone and clocks of another.
    pub fn time(self, days: &Zone, clocks: &Zone) -> Timestamp {
        match self {
            Self::At(time) => time,
            Self::Clock(shown) => clocks.time(shown),
            Self::Day(day) => days.bounds(day).start,
            Self::DaysAgo(number) => days.bounds(days.day(event::now()).minus(number)).start,
        }
    }
}

impl FromStr for Moment {
    type Err = NotAMoment;

    fn from_str(text: &str) -> Result<Self, NotAMoment> {
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
            "today" => Some(Self::DaysAgo(0)),
            "yesterday" => Some(Self::DaysAgo(1)),
            text => text.parse().map(Self::Day).ok(),
        };
        let at = text.parse().ok().or_else(ago).map(Self::At);
        let clock = || text.parse().map(Self::Clock).ok();
        at.or_else(day).or_else(clock).ok_or(NotAMoment)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_moment_is_a_time_a_day_or_how_long_ago() {
        let zone = Zone::default();
        let moment = |text: &str| text.parse::<Moment>();
        let time = |text: &str| moment(text).unwrap().time(&zone, &zone);
        let check = |text: &str, expect: &str| assert_eq!(time(text).to_string(), expect);
        check("2026-11-22T16:00:00Z", "2026-11-22T16:00:00Z");
        check("2026-11-22T13:00:00-03:00", "2026-11-22T16:00:00Z");
        check("2026-11-22", "2026-11-22T03:00:00Z");
        for (text, seconds) in [("90s", 90), ("30m", 1800), ("2h", 7200), ("7d", 604_800)] {
            let ago = event::now().as_second() - time(text).as_second();
            assert!((seconds..=seconds + 1).contains(&ago), "{text}: {ago}");
        }
        let day = |text: &str| zone.day(time(text));
        assert_eq!((day("today"), day("yesterday")), (zone.day(event::now()), day("today").minus(1)));
        let clock = moment("2026-11-22 13:00").unwrap();
        assert_eq!(clock, Moment::Clock("2026-11-22T13:00".parse().unwrap()));
        let utc = Zone::new(event::UTC).unwrap();
        assert_eq!(clock.time(&zone, &utc).to_string(), "2026-11-22T13:00:00Z");
        for text in ["", "h", "tomorrow", "2h ago", "2026-13-01", "-1h", "99999999999999999999d", "é"] {
            assert_eq!(moment(text), Err(NotAMoment), "{text}");
        }
    }
}
