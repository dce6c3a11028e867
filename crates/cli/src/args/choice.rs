//! What a job is about, and how it is asked for.

use clap::Args;
use event::Zone;
use ledger::EventFilter;

use super::values::{at_least_one, filter};
use super::{ApiArgs, Options};

/// Which events a job is about.
#[derive(Clone, Debug, Args)]
pub struct EventChoice {
    /// Only these events.
    #[arg(value_name = "ID")]
    pub ids: Vec<String>,
    /// Only events of this source.
    #[arg(long, value_name = "NAME")]
    pub source: Option<String>,
    /// The rest of their filter.
    #[command(flatten)]
    pub filter: Options<EventFilter>,
    /// All events; required when no other filter is given.
    #[arg(long)]
    pub everything: bool,
}

impl EventChoice {
    /// The same for a list of any rows, with days of this zone.
    pub fn choice(self, zone: &Zone) -> Choice {
        let Self { ids, source, filter, everything } = self;
        Choice { ids, filters: filter.parameters(zone).collect(), source, everything }
    }
}

/// How a job is asked for and followed.
#[derive(Clone, Debug, Default, Args)]
pub struct JobArgs {
    /// At most so many per second [default: as fast as the broker confirms].
    #[arg(long, value_name = "N", value_parser = at_least_one::<u32>)]
    pub rate: Option<u32>,
    /// Only show how many there would be.
    #[arg(long)]
    pub dry_run: bool,
    /// Do not ask for confirmation.
    #[arg(long)]
    pub yes: bool,
    /// Do not wait for the end.
    #[arg(long)]
    pub detach: bool,
    /// How the API is reached.
    #[command(flatten)]
    pub api: ApiArgs,
}

/// Which rows of a list a job is about.
#[derive(Clone, Debug, Default, Args)]
pub struct Choice {
    /// Only these.
    #[arg(value_name = "ID")]
    pub ids: Vec<String>,
    /// Only rows with this value, as `list --where` takes it.
    #[arg(long = "where", value_name = "FIELD=VALUE", value_parser = filter)]
    pub filters: Vec<(String, String)>,
    /// Only rows of this source.
    #[arg(long, value_name = "NAME")]
    pub source: Option<String>,
    /// Everything listed; required when no other filter is given.
    #[arg(long)]
    pub everything: bool,
}
