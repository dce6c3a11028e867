//! `malote feed` and `malote events tail`.

use clap::Args;

use super::ApiArgs;
use super::values::at_least_one;

/// `malote events tail`
#[derive(Clone, Debug, Args)]
pub struct Tail {
    /// Only events of this source.
    #[arg(long, value_name = "NAME")]
    pub source: Option<String>,
    /// Only these topics, such as mercado-eletronico:order.*,recuperador:#
    #[arg(long, value_name = "PROVIDER:PATTERN,…")]
    pub topics: Option<String>,
    /// Print each event as a CloudEvent, one JSON object on each line.
    #[arg(long)]
    pub json: bool,
    /// How the API is reached.
    #[command(flatten)]
    pub api: ApiArgs,
}

/// `malote feed`
#[derive(Clone, Debug, Args)]
pub struct Feed {
    /// Begin after this position, with the oldest event (`beginning`), or with what is recorded from now on (`now`).
    #[arg(long, value_name = "POSITION", default_value = "beginning")]
    pub after: String,
    /// Only these topics, such as mercado-eletronico:order.*,recuperador:#
    #[arg(long, value_name = "PROVIDER:PATTERN,…")]
    pub topics: Option<String>,
    /// Wait for further events until interrupted.
    #[arg(long)]
    pub follow: bool,
    /// The maximum number of events, without --follow.
    #[arg(long, value_name = "N", default_value_t = 50, value_parser = at_least_one::<u32>, conflicts_with = "follow")]
    pub limit: u32,
    /// Print each event as a CloudEvent, one JSON object on each line.
    #[arg(long)]
    pub json: bool,
    /// How the API is reached.
    #[command(flatten)]
    pub api: ApiArgs,
}
