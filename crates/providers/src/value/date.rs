//! The day that a provider means.

use std::fmt;

use jiff::civil;
use serde::{Deserialize, Serialize};

use super::{Value, string, unexpected};
use crate::body::kind;
use crate::scan;
use crate::unexpected::Unexpected;

/// A day of the calendar, from any of the documented forms: `YYYY-MM-DD`, `YYYY-MM-DDT00:00:00` (any time of
/// day), or a PHP `DateTime` object `{date, timezone_type, timezone}`. A time may have a zone: `Z`, `-03:00`, `-0300`.
///
/// The day is the one that the provider wrote, in the provider's zone; nothing is converted. Years are 1 to 9999. An
/// optional date is absent if it is the zero date of the sender's system: `0000-00-00` (MySQL), `-0001-11-30` (the same
/// in PHP), `0001-01-01` (.NET).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(transparent)]
pub struct Date(pub civil::Date);

impl fmt::Display for Date {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// How PHP's `json_encode` writes a `DateTime`.
#[derive(Deserialize)]
struct PhpDateTime {
    date: String,
    /// 1: an offset such as `-03:00`; 2: an abbreviation such as `BRT`; 3: a zone name such as
    /// `America/Sao_Paulo`.
    timezone_type: u8,
    #[serde(rename = "timezone")]
    _timezone: String,
}

impl Value for Date {
    fn read(json: &str) -> Result<Self, Unexpected> {
        let day = match kind(json) {
            "an object" => serde_json::from_str::<PhpDateTime>(json)
                .ok()
                .filter(|php| (1..=3).contains(&php.timezone_type))
                .and_then(|php| day(&php.date)),
            _ => string(json).and_then(|text| day(&text)),
        };
        day.map(Self).ok_or_else(|| {
            let expected =
                r#"a date ("YYYY-MM-DD", "YYYY-MM-DDThh:mm:ss" or {date, timezone_type, timezone})"#;
            unexpected(expected, json)
        })
    }

    fn is_absent(json: &str) -> bool {
        let text = match kind(json) {
            "an object" => scan::first(json, ["date"])[0].and_then(string),
            _ => string(json),
        };
        let zeros = ["0000-00-00", "-0001-11-30", "0001-01-01"];
        let is_zero = |text: String| text.is_empty() || zeros.iter().any(|zero| text.starts_with(zero));
        json == "null" || text.is_some_and(is_zero)
    }
}

fn day(text: &str) -> Option<civil::Date> {
    let (date, rest) = text.split_at_checked(10)?;
    let is_dashed = date.bytes().enumerate().all(|(at, byte)| match at {
        4 | 7 => byte == b'-',
        _ => byte.is_ascii_digit(),
    });
    let day: civil::Date = date.parse().ok().filter(|_| is_dashed)?;
    let is_time = match rest.as_bytes() {
        [] => true,
        [b'T' | b' ', ..] => {
            let end = rest[1..]
                .find(|c: char| !matches!(c, '0'..='9' | ':' | '.' | ','))
                .map_or(rest.len(), |at| at + 1);
            let (time, zone) = rest.split_at(end);
            format!("{date}{time}").parse::<civil::DateTime>().is_ok() && is_zone(zone.trim_start())
        }
        _ => false,
    };
    (is_time && day.year() >= 1).then_some(day)
}

/// Whether a text is empty or the zone of a time: `Z`, `-03`, `-0300`, `-03:00`, each with an optional name in
/// brackets.
fn is_zone(text: &str) -> bool {
    let offset =
        text.split_once('[').filter(|(_, name)| name.ends_with(']')).map_or(text, |(offset, _)| offset);
    match offset.strip_prefix(['+', '-']) {
        Some(digits) => {
            let plain = digits.replacen(':', "", 1);
            matches!(plain.len(), 2 | 4) && plain.bytes().all(|byte| byte.is_ascii_digit())
        }
        None => matches!(offset, "" | "Z" | "z" | "UTC" | "GMT"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_date_is_read_from_each_documented_form() {
        let check = |json: &str, expect: &str| {
            assert_eq!(Date::read(json).map(|d| d.to_string()), Ok(expect.to_owned()), "{json}");
        };
        check(r#""2026-10-05""#, "2026-10-05");
        check(r#""2026-10-05T00:00:00""#, "2026-10-05");
        check(r#""2026-10-05 23:59:59.123456""#, "2026-10-05");
        check(
            r#"{"date": "2021-03-02 21:02:53.000000", "timezone_type": 3, "timezone": "America/Sao_Paulo"}"#,
            "2021-03-02",
        );
        check(
            r#"{"date": "2021-03-02 21:02:53.000000", "timezone_type": 1, "timezone": "-03:00"}"#,
            "2021-03-02",
        );
        check(
            r#"{"date": "2021-03-02 21:02:53.000000", "timezone_type": 2, "timezone": "BRT"}"#,
            "2021-03-02",
        );
    }

    #[test]
    fn the_day_is_the_written_one_whatever_the_zone() {
        for zone in
            ["Z", "z", ".000Z", ".123456Z", "-03:00", "-0300", "-03", "+00:00", ".5+0530", " -0300", " UTC"]
        {
            assert_eq!(
                Date::read(&format!("\"2026-12-16T02:59:59{zone}\"")).map(|date| date.to_string()),
                Ok("2026-12-16".to_owned()),
                "{zone}"
            );
        }
        let java = r#""2026-12-16T00:00-03:00[America/Sao_Paulo]""#;
        assert_eq!(Date::read(java).unwrap().to_string(), "2026-12-16");
        for wrong in ["-3", "-03:00:00", "ZZ", "BRT", "-0x:00", "-03:00]"] {
            assert!(Date::read(&format!("\"2026-12-16T02:59:59{wrong}\"")).is_err(), "{wrong}");
        }
    }

    #[test]
    fn the_zero_of_the_senders_system_is_no_date() {
        for zero in [
            "null",
            r#""""#,
            r#""0000-00-00""#,
            r#""0000-00-00 00:00:00""#,
            r#""-0001-11-30T00:00:00-03:06""#,
            r#""0001-01-01T00:00:00""#,
            r#"{"date": "-0001-11-30 00:00:00.000000", "timezone_type": 3, "timezone": "America/Sao_Paulo"}"#,
        ] {
            assert!(Date::is_absent(zero), "{zero}");
        }
        for other in [r#""2026-10-05""#, r#""x""#, "0", r#"{"date": "2026-10-05"}"#, "[]"] {
            assert!(!Date::is_absent(other), "{other}");
        }
        assert!(Date::read(r#""0000-01-01""#).is_err());
    }

    #[test]
    fn what_is_not_a_date_is_refused() {
        let check = |json: &str, expect: &str| {
            let error = Date::read(json).unwrap_err().to_string();
            assert!(error.starts_with("expected a date (") && error.ends_with(expect), "{error}");
        };
        check(r#""2026-02-30""#, "got a text of 10 characters");
        check(r#""0000-00-00""#, "got a text of 10 characters");
        check(r#""05/10/2026""#, "got a text of 10 characters");
        check(r#""2026-10-05T25:00:00""#, "got a text of 19 characters");
        check(r#""2026-10-05x""#, "got a text of 11 characters");
        check("20261005", "got a number of 8 characters");
        check("null", "got null");
        check(r#"{"date": "2021-03-02", "timezone_type": 9, "timezone": "UTC"}"#, "got an object");
        check(r#"{"timezone_type": 3, "timezone": "UTC"}"#, "got an object");
    }
}
