//! How many deliveries a consumer holds at a time: one at first, then as many as the sizes of their bodies allow.
//!
//! AMQP bounds what a consumer holds by number only. A crash of the process counts against everything it holds, so the
//! window stays at one while redeliveries arrive: then only the message that crashed the process is counted.

use crate::taken::Taken;

/// The maximum growth of the window in one step.
const GROWTH: u16 = 8;

/// The weight of a body in the mean size is one in this many.
const WEIGHT: usize = 8;

pub(crate) struct Window {
    /// The largest number of deliveries.
    most: u16,
    /// The maximum total size of their bodies, in bytes.
    bytes: usize,
    now: u16,
    /// The moving average of body sizes.
    mean: Option<usize>,
    /// The last batch had a redelivery.
    came_back: bool,
}

impl Window {
    pub(crate) fn new(most: u16, bytes: usize) -> Self {
        Self { most, bytes, now: 1, mean: None, came_back: false }
    }

    /// How many deliveries the consumer may hold.
    pub(crate) fn now(&self) -> u16 {
        self.now
    }

    /// Accounts for a batch.
    pub(crate) fn note(&mut self, batch: &[Taken]) {
        if batch.is_empty() {
            return;
        }
        self.came_back = batch.iter().any(|taken| taken.redelivered || taken.is_alone());
        for size in batch.iter().map(|taken| taken.message.body.len()) {
            self.mean = Some(self.mean.map_or(size, |mean| mean - mean / WEIGHT + size / WEIGHT));
        }
    }

    /// The new number of deliveries, if it changes. With `others_wait` it also grows while redeliveries arrive: what is
    /// held must not block the others.
    pub(crate) fn next(&mut self, others_wait: bool) -> Option<u16> {
        let fits = self.mean.map_or(1, |mean| self.bytes / mean.max(1));
        let fits = u16::try_from(fits).unwrap_or(u16::MAX).clamp(1, self.most.max(1));
        let next = if fits < self.now {
            fits
        } else if self.came_back && !others_wait {
            self.now
        } else if fits == self.most || fits / 2 >= self.now {
            // Not for every small change of the mean: a change costs a few round trips.
            fits.min(self.now.saturating_mul(GROWTH))
        } else {
            self.now
        };
        (std::mem::replace(&mut self.now, next) != next).then_some(next)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::taken::tests::taken;

    const MIB: usize = 1024 * 1024;

    #[test]
    fn small_bodies_fill_the_window_and_large_ones_shrink_it() {
        let mut window = Window::new(512, 16 * MIB);
        let mut after = |size, count: usize| {
            window.note(&(0..count).map(|_| taken(size, false)).collect::<Vec<_>>());
            window.next(false)
        };
        assert_eq!(after(2_000, 1), Some(8));
        assert_eq!(after(2_000, 8), Some(64));
        assert_eq!(after(2_000, 64), Some(512));
        assert_eq!(after(2_000, 256), None);
        let shrunk = after(MIB, 32).expect("sixteen of them are the limit");
        assert!((16..=17).contains(&shrunk), "{shrunk}");
        assert_eq!(after(64 * MIB, 64), Some(1), "one delivery is always allowed");
    }

    #[test]
    fn while_deliveries_come_back_the_window_does_not_grow() {
        let mut window = Window::new(512, 16 * MIB);
        window.note(&[taken(10, true)]);
        assert_eq!(window.next(false), None);
        assert_eq!(window.next(true), Some(8));
        window.note(&[taken(10, false), taken(10, true)]);
        assert_eq!(window.next(false), None);
        window.note(&[taken(10, false)]);
        assert_eq!(window.next(false), Some(64));
    }
}
