//! `Retry-After` (RFC 9110, section 10.2.3).

use std::time::{Duration, SystemTime};

use event::Timestamp;
use http::HeaderMap;
use http::header::RETRY_AFTER;

/// How long after `now`, when the answer arrived, a request may be sent again: never earlier than the answer says. A number of
/// seconds, or a date in one of the three forms of HTTP; a date that has passed is no wait. `None` if the answer
/// does not say, or what it says is malformed; the longest if it says several.
pub fn retry_after(headers: &HeaderMap, now: Timestamp) -> Option<Duration> {
    headers.get_all(RETRY_AFTER).iter().filter_map(|value| wait(value.to_str().ok()?.trim(), now)).max()
}

fn wait(text: &str, now: Timestamp) -> Option<Duration> {
    if !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit()) {
        // More digits than a number has are a long time, too.
        return Some(Duration::from_secs(text.parse().unwrap_or(u64::MAX)));
    }
    let date = httpdate::parse_http_date(text).ok()?;
    Some(date.duration_since(SystemTime::from(now)).unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    fn check(values: &[&str], expect: Option<Duration>) {
        let now: Timestamp = "1994-11-06T08:49:07.25Z".parse().unwrap();
        let mut headers = HeaderMap::new();
        for value in values {
            headers.append(RETRY_AFTER, HeaderValue::from_str(value).unwrap());
        }
        assert_eq!(retry_after(&headers, now), expect, "{values:?}");
    }

    #[test]
    fn seconds_and_every_form_of_a_date_are_read_to_the_millisecond() {
        check(&["120"], Some(Duration::from_secs(120)));
        check(&["0"], Some(Duration::ZERO));
        check(&[" 7 "], Some(Duration::from_secs(7)));
        check(&["99999999999999999999999"], Some(Duration::from_secs(u64::MAX)));
        let exact = Some(Duration::from_millis(29_750));
        check(&["Sun, 06 Nov 1994 08:49:37 GMT"], exact);
        check(&["Sunday, 06-Nov-94 08:49:37 GMT"], exact);
        check(&["Sun Nov  6 08:49:37 1994"], exact);
        check(&["Sun, 06 Nov 1994 08:49:07 GMT"], Some(Duration::ZERO));
    }

    #[test]
    fn several_values_are_the_longest_and_malformed_ones_are_none() {
        check(&["5", "Sun, 06 Nov 1994 08:49:37 GMT", "soon"], Some(Duration::from_millis(29_750)));
        for malformed in
            ["", "-1", "1.5", "+3", "soon", "1994-11-06T08:49:37Z", "Sun, 32 Nov 1994 08:49:37 GMT"]
        {
            check(&[malformed], None);
        }
        check(&[], None);
    }
}
