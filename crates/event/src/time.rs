//! A time as text: what the formatting of [`Timestamp`] gives, without its generality, since every event has one.

use crate::Timestamp;

const DAY_S: u64 = 24 * 3600;

/// The time in UTC (RFC 3339), with as many digits of the second as it needs: `2026-11-27T19:26:00.25Z`.
pub(crate) fn rfc3339(time: Timestamp) -> String {
    let fraction = u32::try_from(time.subsec_nanosecond());
    let (Ok(seconds), Ok(mut fraction)) = (u64::try_from(time.as_second()), fraction) else {
        // Before 1970.
        return time.to_string();
    };
    let (year, month, day) = civil(seconds / DAY_S);
    let of_day = seconds % DAY_S;
    let mut text = *b"0000-00-00T00:00:00.000000000Z";
    let parts = [year / 100, year % 100, month, day, of_day / 3600, of_day / 60 % 60, of_day % 60];
    for (at, part) in [0, 2, 5, 8, 11, 14, 17].into_iter().zip(parts) {
        text[at] += (part / 10) as u8;
        text[at + 1] += (part % 10) as u8;
    }
    let mut end = 19;
    if fraction > 0 {
        end = 29;
        for at in (20..29).rev() {
            text[at] += (fraction % 10) as u8;
            fraction /= 10;
        }
        while text[end - 1] == b'0' {
            end -= 1;
        }
    }
    text[end] = b'Z';
    std::str::from_utf8(&text[..=end]).map_or_else(|_| time.to_string(), str::to_owned)
}

/// Year, month and day of the days since 1970 (Hinnant, `chrono`-compatible low-level date algorithms): years begin in
/// March, so that the day of a leap year is their last.
fn civil(days: u64) -> (u64, u64, u64) {
    let days = days + 719_468;
    let (era, of_era) = (days / 146_097, days % 146_097);
    let year = (of_era - of_era / 1_460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year + year / 4 - year / 100);
    let month = (5 * of_year + 2) / 153;
    let day = of_year - (153 * month + 2) / 5 + 1;
    let month = if month < 10 { month + 3 } else { month - 9 };
    (era * 400 + year + u64::from(month <= 2), month, day)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_time_has_the_text_that_its_own_formatting_gives() {
        let check = |time: Timestamp| assert_eq!(rfc3339(time), time.to_string());
        for text in [
            "1969-12-31T23:59:59.5Z",
            "1970-01-01T00:00:00Z",
            "2000-02-29T23:59:59.999999999Z",
            "2026-11-27T19:26:00.000001Z",
            "2100-03-01T00:00:00.1Z",
            "9999-12-30T21:59:59.99Z",
        ] {
            check(text.parse().unwrap());
        }
        // Every day of 400 years, at another time and with another fraction each.
        for day in 0..146_097_i64 {
            let microsecond = (day * 86_400 + day * 7_919 % 86_400) * 1_000_000 + day * 104_729 % 1_000_000;
            check(Timestamp::from_microsecond(microsecond).unwrap());
        }
    }
}
