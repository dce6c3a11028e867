//! The alarm of a nearly full disk, like RabbitMQ's own.
//!
//! What watches the disk raises it; what stores events from outside checks it first. It does not look at a disk itself.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// Whether a disk has less free space than configured. Clones share one alarm.
#[derive(Clone, Debug, Default)]
pub struct DiskAlarm(Arc<AtomicBool>);

impl DiskAlarm {
    /// Raises or clears it; returns whether that changed it.
    pub fn set(&self, is_raised: bool) -> bool {
        self.0.swap(is_raised, Ordering::Relaxed) != is_raised
    }

    /// Whether events from outside must not be stored now.
    pub fn is_raised(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }
}
