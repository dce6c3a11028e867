//! The free space on the disks of malote's own files, and the alarm when it is too low.
//!
//! Promises that the alarm is raised within about a second. It looks at local files only: a database server and RabbitMQ watch
//! their own disks.

use std::path::PathBuf;
use std::time::Duration;

use broker::{DiskAlarm, free_bytes};
use server::ComponentHealth;
use tokio::time::sleep;

/// The interval of checks.
const PERIOD: Duration = Duration::from_secs(1);

/// Updates the alarm from the disks of these folders, forever.
pub async fn watch(folders: Vec<PathBuf>, limit_bytes: u64, alarm: DiskAlarm, health: ComponentHealth) {
    loop {
        let looked_at = folders.clone();
        // A network disk may be slow.
        let trouble = tokio::task::spawn_blocking(move || {
            let looks = looked_at.into_iter().map(|folder| (free_bytes(&folder), folder));
            let in_trouble = looks.filter(|(free, _)| free.is_none_or(|free| free < limit_bytes));
            // Low space takes precedence over unknown space.
            in_trouble.max_by_key(|(free, _)| free.is_some())
        });
        let trouble = trouble.await.expect("asking for free space does not panic");
        let changed = alarm.set(matches!(trouble, Some((Some(_), _))));
        match trouble {
            Some((Some(_), folder)) if changed => health.down(format!(
                "less than data.disk_free_limit_bytes ({limit_bytes}) is free on the disk of {}: no event is stored there \
                 until there is room",
                folder.display()
            )),
            Some((Some(_), _)) => {}
            Some((None, folder)) => health.degraded(format!(
                "the free space on the disk of {} is unknown; check that the folder exists",
                folder.display()
            )),
            None => health.up(),
        }
        sleep(PERIOD).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_disk_that_cannot_be_looked_at_is_in_trouble_and_raises_no_alarm() {
        let (alarm, health) = (DiskAlarm::default(), server::Health::default());
        let folders = vec![PathBuf::from("."), PathBuf::from("/no/such/folder")];
        let watch = tokio::spawn(watch(folders, 1, alarm.clone(), health.component("disk")));
        let look = async {
            while health.trouble("disk").as_deref() == Some("starting") {
                tokio::task::yield_now().await;
            }
        };
        tokio::time::timeout(Duration::from_secs(10), look).await.unwrap();
        watch.abort();
        assert!(health.trouble("disk").unwrap().contains("/no/such/folder"));
        assert!(health.down().is_empty() && !alarm.is_raised());
    }
}
