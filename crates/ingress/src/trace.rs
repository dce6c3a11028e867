//! The `traceparent` of an event: the sender's, or one made from the event's id.

use event::EventId;
use http::{HeaderMap, HeaderName};

const TRACEPARENT: HeaderName = HeaderName::from_static("traceparent");

/// The request's `traceparent` where it keeps the rule (W3C Trace Context, section 3.2), else a new one made from the id.
pub(crate) fn traceparent(headers: &HeaderMap, id: EventId) -> String {
    match headers.get(&TRACEPARENT).and_then(|value| value.to_str().ok()) {
        Some(given) if is_valid(given) => given.to_owned(),
        _ => id.traceparent(),
    }
}

fn is_valid(text: &str) -> bool {
    let is_hex = |part: &str, length: usize| {
        part.len() == length && part.bytes().all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b))
    };
    let is_id = |part: &str, length| is_hex(part, length) && part.bytes().any(|b| b != b'0');
    match text.split('-').collect::<Vec<_>>()[..] {
        ["00", trace, parent, flags] => is_id(trace, 32) && is_id(parent, 16) && is_hex(flags, 2),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_good_traceparent_is_kept_and_a_bad_one_is_replaced() {
        let id = EventId::generate();
        let check = |given: &'static str, kept: bool| {
            let mut headers = HeaderMap::new();
            headers.insert("traceparent", given.parse().unwrap());
            let traceparent = traceparent(&headers, id);
            assert_eq!(traceparent == given, kept, "{given}");
            assert!(is_valid(&traceparent), "{traceparent}");
        };
        check("00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01", true);
        check("00-4BF92F3577B34DA6A3CE929D0E0E4736-00f067aa0ba902b7-01", false);
        check("00-00000000000000000000000000000000-00f067aa0ba902b7-01", false);
        check("00-4bf92f3577b34da6a3ce929d0e0e4736-0000000000000000-01", false);
        check("x", false);
        assert!(is_valid(&super::traceparent(&HeaderMap::new(), id)));
    }
}
