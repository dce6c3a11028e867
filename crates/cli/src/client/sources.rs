//! `malote sources`: the configured sources, what their requests prove, and how polling them goes.

use anyhow::{Result, bail};
use polling::{SOURCES, SourceRow};
use serde_json::value::RawValue;
use serde_json::{Map, Value};

use super::api::Api;
use super::fields::{Described, Fields};
use super::lists::{list, print_json};
use super::proofs;
use crate::args::sources::{SourceShow, Sources};
use crate::config::Config;
use crate::report;

/// The width of the longest name of a line.
const NAME_WIDTH: usize = 12;

/// Runs the commands that ask the API.
pub async fn run(command: Sources, config: &Config) -> Result<()> {
    match command {
        Sources::List(rows) => list(&SOURCES, rows, config).await.map(drop),
        Sources::Show(args) => show(&args, config).await,
        // They ask no API.
        Sources::Add(_) | Sources::Presets { .. } => Ok(()),
    }
}

async fn show(SourceShow { name, process, output }: &SourceShow, config: &Config) -> Result<()> {
    let api = Api::new(&output.api, config)?;
    let filter = [("source".to_owned(), name.clone())];
    let (rows, _) = api.newest::<Box<RawValue>>(SOURCES.name, &filter, 1).await?;
    let Some(row) = rows.first() else { bail!("no source {name}; their names are in `malote sources list`") };
    let proofs = proofs::known_proofs(name, process, &api, config).await;
    if output.json {
        let mut row: Map<String, Value> = serde_json::from_str(row.get())?;
        row.extend(proofs.iter().flat_map(proofs::Proofs::members));
        print_json(&row);
        return Ok(());
    }
    report::print(&api.read::<SourceRow>(SOURCES.name, row.get().as_bytes())?.described());
    proofs.iter().for_each(|proofs| report::print(&proofs.described()));
    Ok(())
}

impl Described for SourceRow {
    fn described(&self) -> String {
        let every = self.poll_every_s.map(|seconds| format!("every {seconds} s"));
        let fields = Fields::new(NAME_WIDTH)
            .text("source", &self.source)
            .text("provider", &self.provider)
            .text("polled", &every.unwrap_or_else(|| "no".to_owned()))
            .time("last poll", &self.polled_at)
            .text("items", &self.items)
            .time("next poll", &self.next_poll_at)
            .text("failed polls", &Some(self.failures).filter(|failures| *failures > 0))
            .time("last failure", &self.failed_at)
            .text("failure", &self.failure);
        fields.text
    }
}
