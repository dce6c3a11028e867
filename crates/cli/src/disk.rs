//! The disk that malote's own files are on: how much of it is free, and the alarm when that is too little.
//!
//! Promises that the alarm is raised within about a second. It looks at local files only: a database server and RabbitMQ watch
//! their own disks.

use std::path::{Path, PathBuf};
use std::time::Duration;

use broker::DiskAlarm;
use server::Component;
use tokio::time::sleep;

/// How often the disk is looked at.
const PERIOD: Duration = Duration::from_secs(1);

/// The bytes that are free for this user on the disk of a folder; `None` where the system does not say.
pub fn free_bytes(folder: &Path) -> Option<u64> {
    let status = rustix::fs::statvfs(folder).ok()?;
    Some(status.f_bavail * status.f_frsize)
}

/// Keeps the alarm true to the disks of these folders, without an end.
pub async fn watch(folders: Vec<PathBuf>, limit_bytes: u64, alarm: DiskAlarm, health: Component) {
    loop {
        let looked_at = folders.clone();
        // A disk behind a network may take its time.
        let short = tokio::task::spawn_blocking(move || {
            looked_at.into_iter().find(|folder| free_bytes(folder).is_some_and(|free| free < limit_bytes))
        });
        let short = short.await.expect("asking for free space does not panic");
        let changed = alarm.set(short.is_some());
        match short {
            Some(folder) if changed => health.down(format!(
                "less than data.disk_free_limit_bytes ({limit_bytes}) is free on the disk of {}: no event is stored there \
                 until there is room",
                folder.display()
            )),
            Some(_) => {}
            None => health.up(),
        }
        sleep(PERIOD).await;
    }
}
