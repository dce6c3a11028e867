//! When an event is tried again.

use std::time::Duration;

use event::EventId;

use crate::Wait;

/// By how much a wait is lengthened at random, at most, in per cent. It is never shortened.
const JITTER_PERCENT: u32 = 20;

/// The longest wait that an endpoint can ask for with `Retry-After`.
pub(super) const LONGEST_ASKED: Duration = Duration::from_secs(86_400);

/// The wait before the next attempt of an event that has used up so many waits; `None` once all are used up. Events that
/// failed together come back spread out: each has its own random part, made of its id.
pub(super) fn wait(retry: &[Wait], steps: usize, id: EventId) -> Option<Duration> {
    let Wait(wait) = retry.get(steps)?;
    let bytes = id.as_bytes();
    let turn = u32::try_from(steps).unwrap_or(u32::MAX);
    // The last bytes of an id are random.
    let random = u32::from(u16::from_be_bytes([bytes[14], bytes[15]]).rotate_left(turn % 16));
    Some(*wait + *wait * JITTER_PERCENT / 100 * random / u32::from(u16::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::declaration::DEFAULT_RETRY;

    #[test]
    fn no_wait_is_shorter_than_declared_and_none_more_than_a_fifth_longer() {
        for (steps, Wait(declared)) in DEFAULT_RETRY.into_iter().enumerate() {
            let waits: Vec<_> =
                (0..200).filter_map(|_| wait(&DEFAULT_RETRY, steps, EventId::generate())).collect();
            assert_eq!(waits.len(), 200);
            assert!(
                waits.iter().all(|wait| *wait >= declared && *wait <= declared * 12 / 10),
                "{declared:?}"
            );
            assert!(waits.iter().any(|wait| *wait > declared * 11 / 10), "they are spread: {declared:?}");
        }
        assert_eq!(wait(&DEFAULT_RETRY, DEFAULT_RETRY.len(), EventId::generate()), None);
        assert_eq!(wait(&[], 0, EventId::generate()), None);
    }
}
