//! The day that a provider means.

use std::fmt;

use jiff::civil;
use serde::{Deserialize, Serialize};

use super::{Value, deserialize, shown, string};

/// A day of the calendar, from any of the documented forms: `YYYY-MM-DD`, `YYYY-MM-DDT00:00:00` (any time of
/// day), or a PHP `DateTime` object `{date, timezone_type, timezone}`.
///
/// The day is the one that the provider wrote, in the provider's zone; nothing is converted.
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
    fn read(json: &str) -> Result<Self, String> {
        let day = match super::kind(json) {
            "an object" => serde_json::from_str::<PhpDateTime>(json)
                .ok()
                .filter(|php| (1..=3).contains(&php.timezone_type))
                .and_then(|php| day(&php.date)),
            _ => string(json).and_then(|text| day(&text)),
        };
        day.map(Self).ok_or_else(|| {
            format!(
                "expected a date (\"YYYY-MM-DD\", \"YYYY-MM-DDThh:mm:ss\" or \
                 {{date, timezone_type, timezone}}), got {}",
                shown(json)
            )
        })
    }
}

fn day(text: &str) -> Option<civil::Date> {
    let (date, rest) = text.split_at_checked(10)?;
    let is_dashed = date.bytes().enumerate().all(|(at, byte)| match at {
        4 | 7 => byte == b'-',
        _ => byte.is_ascii_digit(),
    });
    let day = date.parse().ok().filter(|_| is_dashed)?;
    match rest.as_bytes() {
        [] => Some(day),
        [b'T' | b' ', ..] => text.parse::<civil::DateTime>().ok().map(|_| day),
        _ => None,
    }
}

deserialize!(Date);

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
    fn what_is_not_a_date_is_refused() {
        let check = |json: &str, expect: &str| {
            let error = Date::read(json).unwrap_err();
            assert!(error.starts_with("expected a date (") && error.ends_with(expect), "{error}");
        };
        check(r#""2026-02-30""#, r#"got "2026-02-30""#);
        check(r#""0000-00-00""#, r#"got "0000-00-00""#);
        check(r#""05/10/2026""#, r#"got "05/10/2026""#);
        check(r#""2026-10-05T25:00:00""#, r#"got "2026-10-05T25:00:00""#);
        check(r#""2026-10-05x""#, r#"got "2026-10-05x""#);
        check("20261005", "got 20261005");
        check("null", "got null");
        check(r#"{"date": "2021-03-02", "timezone_type": 9, "timezone": "UTC"}"#, "got an object");
        check(r#"{"timezone_type": 3, "timezone": "UTC"}"#, "got an object");
    }
}
