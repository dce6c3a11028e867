//! The results of the requests of a flood.

use std::sync::atomic::{AtomicUsize, Ordering};

/// What the flood sees.
#[derive(Default)]
pub struct Counts {
    pub connections: AtomicUsize,
    /// By class of status.
    pub answers: [AtomicUsize; 6],
    pub closed: AtomicUsize,
}

impl Counts {
    /// Counts an answer by its head; without one, the connection was closed.
    pub fn answered(&self, head: &[u8]) {
        match head.get(9).map(|first| usize::from(first.wrapping_sub(b'0'))) {
            Some(class @ 1..=5) => self.answers[class].fetch_add(1, Ordering::Relaxed),
            _ => self.closed.fetch_add(1, Ordering::Relaxed),
        };
    }
}
