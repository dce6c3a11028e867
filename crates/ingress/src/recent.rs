//! The keys of the latest facts of a source, in memory: a duplicate of one of them is not delivered to any queue,
//! including those of other services.
//!
//! It forgets the oldest keys, loses all with the process, and does not see what other ingresses accept: then the store
//! decides, for malote's own consumers.

use std::collections::{HashMap, VecDeque};
use std::sync::{Mutex, MutexGuard, PoisonError};

use event::{EventId, Timestamp};

/// How many keys of one source are remembered.
const LIMIT: usize = 20_000;

#[derive(Default)]
pub(crate) struct Recent(Mutex<Keys>);

#[derive(Default)]
struct Keys {
    first: HashMap<Digest, (EventId, Timestamp)>,
    /// Oldest first.
    order: VecDeque<Digest>,
}

/// A key, which is 64 or 32 hexadecimal digits, in the memory of half as many bytes.
type Digest = [u8; 32];

/// `None` for a text that is no key: it is not remembered.
fn digest(key: &str) -> Option<Digest> {
    let mut digest = [0; 32];
    for (at, pair) in key.as_bytes().chunks(2).enumerate() {
        let [high, low] = *pair else { return None };
        let digit = |digit: u8| char::from(digit).to_digit(16);
        *digest.get_mut(at)? = (digit(high)? << 4 | digit(low)?) as u8;
    }
    Some(digest)
}

impl Recent {
    /// No lock is held across code that can panic, so a poisoned one still holds whole values.
    fn keys(&self) -> MutexGuard<'_, Keys> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The fact with this key that was accepted within the window before `time`.
    pub(crate) fn first(&self, key: &str, time: Timestamp, window_s: i64) -> Option<EventId> {
        let key = digest(key)?;
        let (id, first) = *self.keys().first.get(&key)?;
        (time.duration_since(first).as_secs() <= window_s).then_some(id)
    }

    /// Remembers a fact that was accepted, for the first time or after its window.
    pub(crate) fn remember(&self, key: &str, id: EventId, time: Timestamp) {
        let Some(key) = digest(key) else { return };
        let mut keys = self.keys();
        if keys.first.insert(key, (id, time)).is_none() {
            keys.order.push_back(key);
        }
        while keys.order.len() > LIMIT {
            let Some(oldest) = keys.order.pop_front() else { break };
            keys.first.remove(&oldest);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_known_within_its_window_and_the_oldest_is_forgotten() {
        let recent = Recent::default();
        let at = |second| Timestamp::from_second(second).unwrap();
        let id = EventId::generate();
        recent.remember("0a", id, at(100));
        for (key, time, expect) in
            [("0a", 160, Some(id)), ("0A", 90, Some(id)), ("0a", 161, None), ("0b", 100, None)]
        {
            assert_eq!(recent.first(key, at(time), 60), expect, "{key} {time}");
        }
        for n in 0..LIMIT {
            recent.remember(&format!("{n:064x}"), id, at(100));
        }
        let first = format!("{:064x}", 0);
        assert_eq!((recent.first("0a", at(100), 60), recent.first(&first, at(100), 60)), (None, Some(id)));
        for other in ["a", "0x", "é", &"0".repeat(66)] {
            recent.remember(other, id, at(100));
            assert_eq!(recent.first(other, at(100), 60), None, "{other}");
        }
        let keys = recent.keys();
        assert_eq!((keys.first.len(), keys.order.len()), (LIMIT, LIMIT));
    }
}
