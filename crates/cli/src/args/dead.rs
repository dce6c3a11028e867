//! `malote dead`.

use clap::{Args, Subcommand};
use ledger::DeadFilter;

use super::options::DeadListFilter;
use super::{Discard, List, Options, Retry, Show};

/// `malote dead`
#[derive(Debug, Subcommand)]
pub enum Dead {
    /// The newest first.
    List(DeadList),
    /// The dead letters of one event: error, every attempt, headers and body.
    Show(DeadShow),
    /// Send dead letters back to their consumers, with their history.
    Retry(DeadRetry),
    /// Close dead letters without retrying; the reason is recorded.
    Discard(DeadDiscard),
}

/// `malote dead show`
#[derive(Clone, Debug, Args)]
pub struct DeadShow {
    /// Show personal data in the body, which the audit then has.
    #[arg(long)]
    pub reveal: bool,
    /// The rest.
    #[command(flatten)]
    pub show: Show,
}

/// `malote dead list`
#[derive(Clone, Debug, Args)]
pub struct DeadList {
    /// Group by consumer and error; a group's id goes with `retry --group` and `discard --group`.
    #[arg(long)]
    pub group: bool,
    /// Which dead letters.
    #[command(flatten)]
    pub filter: Options<DeadListFilter>,
    /// The rest.
    #[command(flatten)]
    pub list: List,
}

/// `malote dead retry`
#[derive(Clone, Debug, Args)]
pub struct DeadRetry {
    /// Which dead letters.
    #[command(flatten)]
    pub filter: Options<DeadFilter>,
    /// The rest.
    #[command(flatten)]
    pub retry: Retry,
}

/// `malote dead discard`
#[derive(Clone, Debug, Args)]
pub struct DeadDiscard {
    /// Which dead letters.
    #[command(flatten)]
    pub filter: Options<DeadFilter>,
    /// The rest.
    #[command(flatten)]
    pub discard: Discard,
}
