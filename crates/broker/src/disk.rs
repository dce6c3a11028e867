//! The alarm of a disk that is nearly full, as RabbitMQ has it for its own.
//!
//! Whoever watches the disk raises it; whoever stores what comes from outside asks it first. It looks at no disk itself.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// Whether less is free on a disk than has to stay free. Clones are one alarm.
#[derive(Clone, Debug, Default)]
pub struct DiskAlarm(Arc<AtomicBool>);

impl DiskAlarm {
    /// Raises or clears it; true when that changed it.
    pub fn set(&self, is_raised: bool) -> bool {
        self.0.swap(is_raised, Ordering::Relaxed) != is_raised
    }

    /// Whether nothing from outside is to be stored now.
    pub fn is_raised(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }
}
