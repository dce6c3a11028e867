//! Dead letters by group, and one event's letters whole.

use anyhow::Result;
use ledger::{DEAD, DEAD_GROUPS, DeadLetter, GroupNote, NewGroupNote};

use super::api::Api;
use super::lists;
use crate::args::RevealingShow;
use crate::args::dead::{DeadList, DeadNote};
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

/// Notes something about a group of dead letters, or removes what was noted.
pub async fn note(DeadNote { group, text, ticket, remove, api }: DeadNote, config: &Config) -> Result<()> {
    let api = Api::new(&api, config)?;
    let removed = || remove.then(String::new);
    let new = NewGroupNote { text: text.or_else(removed), ticket: ticket.or_else(removed) };
    let noted: Option<GroupNote> = api.post(&format!("{}/{group}/note", DEAD_GROUPS.name), &new).await?;
    report::line(match noted {
        Some(_) => "Noted. `malote dead list --group` shows it.",
        None => "The note is removed.",
    });
    Ok(())
}

/// Prints the dead letters of one event.
pub async fn show(RevealingShow { reveal, show }: RevealingShow, config: &Config) -> Result<()> {
    let none = format!("no consumer gave up on {}", show.id);
    lists::show_all::<DeadLetter>(&DEAD, show, reveal, &none, config).await
}
