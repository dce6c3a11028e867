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
    first: HashMap<String, (EventId, Timestamp)>,
    /// Oldest first.
    order: VecDeque<String>,
}

impl Recent {
    /// No lock is held across code that can panic, so a poisoned one still holds whole values.
    fn keys(&self) -> MutexGuard<'_, Keys> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The fact with this key that was accepted within the window before `time`.
    pub(crate) fn first(&self, key: &str, time: Timestamp, window_s: i64) -> Option<EventId> {
        let (id, first) = *self.keys().first.get(key)?;
        (time.duration_since(first).as_secs() <= window_s).then_some(id)
    }

    /// Remembers a fact that was accepted, for the first time or after its window.
    pub(crate) fn remember(&self, key: String, id: EventId, time: Timestamp) {
        let mut keys = self.keys();
        if keys.first.insert(key.clone(), (id, time)).is_none() {
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
        recent.remember("a".to_owned(), id, at(100));
        for (key, time, expect) in
            [("a", 160, Some(id)), ("a", 90, Some(id)), ("a", 161, None), ("b", 100, None)]
        {
            assert_eq!(recent.first(key, at(time), 60), expect, "{key} {time}");
        }
        for n in 0..LIMIT {
            recent.remember(n.to_string(), id, at(100));
        }
        assert_eq!((recent.first("a", at(100), 60), recent.first("0", at(100), 60)), (None, Some(id)));
        let keys = recent.keys();
        assert_eq!((keys.first.len(), keys.order.len()), (LIMIT, LIMIT));
    }
}
