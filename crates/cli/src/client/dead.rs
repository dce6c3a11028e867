//! Dead letters by group, and one event's letters whole.

use anyhow::Result;
use ledger::{DEAD, DEAD_GROUPS, DeadLetter};

use super::lists;
use crate::args::RevealingShow;
use crate::args::dead::DeadList;
use crate::config::Config;
use crate::report;

/// Prints the dead letters, or their groups, the largest first.
pub async fn list(DeadList { group, filter, mut list }: DeadList, config: &Config) -> Result<()> {
    list.filters.extend(filter.parameters(&config.time.zone));
    if !group {
        return lists::list(&DEAD, list, config).await.map(drop);
    }
    if lists::list(&DEAD_GROUPS, list, config).await? {
        report::line(
            "\n`malote dead list --where group=<Group>` lists one; `malote dead retry --group <Group>` sends it again.",
        );
    }
    Ok(())
}

/// Prints the dead letters of one event.
pub async fn show(RevealingShow { reveal, show }: RevealingShow, config: &Config) -> Result<()> {
    let none = format!("no consumer gave up on {}", show.id);
    lists::show_all::<DeadLetter>(&DEAD, show, reveal, &none, config).await
}
