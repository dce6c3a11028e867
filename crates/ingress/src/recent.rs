//! The keys of a source's latest facts, in this process's memory: a duplicate that meets one is handed to nobody, not
//! even to a queue that is not malote's own.
//!
//! It forgets the oldest, and everything at an end of the process, and does not see what other ingresses take: the store
//! decides then, for malote's own consumers.

use std::collections::{HashMap, VecDeque};
use std::sync::{Mutex, MutexGuard, PoisonError};

use event::Timestamp;

/// How many keys of one source are remembered.
const LIMIT: usize = 20_000;

#[derive(Default)]
pub(crate) struct Recent(Mutex<Keys>);

#[derive(Default)]
struct Keys {
    times: HashMap<String, Timestamp>,
    /// Oldest first.
    order: VecDeque<String>,
}

impl Recent {
    /// No lock is held across code that can panic, so a poisoned one still holds whole values.
    fn keys(&self) -> MutexGuard<'_, Keys> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether a fact with this key was accepted within the window before `time`.
    pub(crate) fn has(&self, key: &str, time: Timestamp, window_s: i64) -> bool {
        self.keys().times.get(key).is_some_and(|first| time.duration_since(*first).as_secs() <= window_s)
    }

    /// Remembers a fact that was accepted, or accepted anew after its window.
    pub(crate) fn remember(&self, key: String, time: Timestamp) {
        let mut keys = self.keys();
        if keys.times.insert(key.clone(), time).is_none() {
            keys.order.push_back(key);
        }
        while keys.order.len() > LIMIT {
            let Some(oldest) = keys.order.pop_front() else { break };
            keys.times.remove(&oldest);
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
        recent.remember("a".to_owned(), at(100));
        assert!(recent.has("a", at(160), 60) && recent.has("a", at(90), 60));
        assert!(!recent.has("a", at(161), 60) && !recent.has("b", at(100), 60));
        for n in 0..LIMIT {
            recent.remember(n.to_string(), at(100));
        }
        assert!(!recent.has("a", at(100), 60) && recent.has("0", at(100), 60));
        let keys = recent.keys();
        assert_eq!((keys.times.len(), keys.order.len()), (LIMIT, LIMIT));
    }
}
