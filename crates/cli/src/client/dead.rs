//! Dead letters by group, and one event's letters whole.

use anyhow::{Result, bail};
use event::EventId;
use ledger::{DEAD_GROUPS, DeadLetter};
use serde_json::value::RawValue;

use super::api::Api;
use super::described::Described;
use super::lists::{self, print_json};
use crate::args::{List, Show};
use crate::config::Config;
use crate::report;

/// Prints the groups of dead letters, the largest first.
pub async fn groups(list: List, config: &Config) -> Result<()> {
    if lists::list(&DEAD_GROUPS, list, config).await? {
        report::line(
            "\n`malote dead list --where group=<Group>` lists one; `malote dead retry --group <Group>` sends it again.",
        );
    }
    Ok(())
}

/// Prints the dead letters of one event.
pub async fn show(Show { id, output }: Show, config: &Config) -> Result<()> {
    if id.parse::<EventId>().is_err() {
        bail!("{id} is not the id of one: ids are in `malote dead list`");
    }
    let api = Api::new(&output.api, config)?;
    let path = format!("dead/{id}");
    let Some(found) = api.find::<view::List<Box<RawValue>>>(&path).await? else {
        bail!("no consumer gave up on {id}; `malote events show {id}` shows its outcome");
    };
    if output.json {
        print_json(&found.items);
        return Ok(());
    }
    let mut texts = Vec::new();
    for letter in found.items {
        texts.push(api.read::<DeadLetter>(&path, letter.get().as_bytes())?.described());
    }
    report::print(&texts.join("\n"));
    Ok(())
}
