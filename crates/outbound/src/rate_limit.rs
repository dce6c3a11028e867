//! `RateLimit-Remaining` and `RateLimit-Reset` (IETF draft-ietf-httpapi-ratelimit-headers, version 7), as most APIs send them.

use std::time::Duration;

use http::HeaderMap;

/// What an answer says of further requests.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RateLimit {
    /// How many more requests are answered in this window.
    pub remaining: u64,
    /// How long the window lasts.
    pub reset: Duration,
}

/// The rate limit of an answer; `None` if it does not say, or what it says is malformed.
pub fn rate_limit(headers: &HeaderMap) -> Option<RateLimit> {
    let number = |name: &str| headers.get(name)?.to_str().ok()?.trim().parse::<u64>().ok();
    Some(RateLimit {
        remaining: number("ratelimit-remaining")?,
        reset: Duration::from_secs(number("ratelimit-reset")?),
    })
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    #[test]
    fn both_numbers_are_needed() {
        let check = |remaining: &'static str, reset: &'static str, expect: Option<(u64, u64)>| {
            let mut headers = HeaderMap::new();
            headers.insert("ratelimit-limit", HeaderValue::from_static("240"));
            headers.insert("ratelimit-remaining", HeaderValue::from_static(remaining));
            headers.insert("ratelimit-reset", HeaderValue::from_static(reset));
            let expect = expect.map(|(remaining, s)| RateLimit { remaining, reset: Duration::from_secs(s) });
            assert_eq!(rate_limit(&headers), expect, "{remaining} {reset}");
        };
        check("239", "60", Some((239, 60)));
        check("0", " 7 ", Some((0, 7)));
        check("-1", "60", None);
        check("1", "soon", None);
        assert_eq!(rate_limit(&HeaderMap::new()), None);
    }
}
