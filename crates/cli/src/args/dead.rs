//! `malote dead`.

use std::path::PathBuf;

use clap::{ArgGroup, Args, Subcommand};
use ledger::DeadFilter;

use super::options::DeadListFilter;
use super::{ApiArgs, Discard, List, Options, Retry, RevealingShow};

/// `malote dead`
#[derive(Debug, Subcommand)]
pub enum Dead {
    /// The newest first.
    List(DeadList),
    /// The dead letters of one event: error, every attempt, headers and body.
    Show(RevealingShow),
    /// Send dead letters back to their consumers, with their history.
    Retry(DeadRetry),
    /// Correct the body of a dead letter, and send that as a new event in its place.
    Edit(DeadEdit),
    /// Close dead letters without retrying; the reason is recorded.
    Discard(DeadDiscard),
    /// Keep a note and the address of a ticket with a group of dead letters.
    Note(DeadNote),
}

/// `malote dead note`
#[derive(Clone, Debug, Args)]
#[command(group(ArgGroup::new("change").required(true).multiple(true)))]
pub struct DeadNote {
    /// The group, as `malote dead list --group` names it.
    pub group: String,
    /// The text of the note; without it, the text stays as it is.
    #[arg(long, value_name = "TEXT", group = "change")]
    pub text: Option<String>,
    /// The address of a ticket; without it, the address stays as it is.
    #[arg(long, value_name = "URL", group = "change")]
    pub ticket: Option<String>,
    /// Remove the text and the address.
    #[arg(long, group = "change", conflicts_with_all = ["text", "ticket"])]
    pub remove: bool,
    /// How the API is reached.
    #[command(flatten)]
    pub api: ApiArgs,
}

/// `malote dead edit`
#[derive(Clone, Debug, Args)]
pub struct DeadEdit {
    /// The event's id, or a beginning of it that only one has.
    pub id: String,
    /// The consumer that gave up; needed if several did.
    #[arg(long, value_name = "NAME")]
    pub consumer: Option<String>,
    /// The corrected body, `-` for standard input [default: what $VISUAL or $EDITOR makes of the body].
    #[arg(long, value_name = "FILE")]
    pub file: Option<PathBuf>,
    /// Why, which is recorded.
    #[arg(long, value_name = "TEXT")]
    pub reason: String,
    /// Send it to every consumer of the topic, and not only to the one that gave up.
    #[arg(long)]
    pub to_all: bool,
    /// How it is done.
    #[command(flatten)]
    pub job: EditArgs,
}

/// How an edit is done.
#[derive(Clone, Debug, Args)]
pub struct EditArgs {
    /// Only check the body, and show what differs.
    #[arg(long)]
    pub dry_run: bool,
    /// Do not ask.
    #[arg(long)]
    pub yes: bool,
    /// Do not wait for the outcome.
    #[arg(long)]
    pub detach: bool,
    /// How the API is reached.
    #[command(flatten)]
    pub api: ApiArgs,
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
