//! The free space of a disk, and the alarm when it is nearly full, like RabbitMQ's own.
//!
//! What watches the disk raises the alarm; what stores events from outside checks it first, and does not look at a disk itself.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// The bytes that are free for this user on the disk of a file or folder; `None` if the system does not report it.
pub fn free_bytes(path: &Path) -> Option<u64> {
    let disk = rustix::fs::statvfs(path).ok()?;
    Some(disk.f_bavail * disk.f_frsize)
}

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
