//! `malote documents`.

use std::path::PathBuf;

use clap::{Args, Subcommand};

use super::{ApiArgs, EventChoice, JobArgs, List, Role, Show};

/// `malote documents`
#[derive(Debug, Args)]
#[command(args_conflicts_with_subcommands = true)]
#[command(after_help = "Without a command it runs the role that fetches documents.")]
pub struct DocumentsArgs {
    /// Where the role has health and metrics.
    #[command(flatten)]
    pub role: Role,
    /// What to do; without it, the role runs.
    #[command(subcommand)]
    pub command: Option<Documents>,
}

/// What is done with documents.
#[derive(Debug, Subcommand)]
pub enum Documents {
    /// The newest first.
    List(List),
    /// One document: where it stands, and all its versions.
    Show(Show),
    /// Have the documents fetched that events name, such as those of a period: what was gone, refused, or received before the source had
    /// an `api`. Archived files are not fetched again.
    Fetch(Fetch),
    /// The content of a document or file, as it was fetched.
    Open(Open),
}

/// `malote documents fetch`
#[derive(Clone, Debug, Args)]
pub struct Fetch {
    /// The events that name them.
    #[command(flatten)]
    pub events: EventChoice,
    /// How it is done.
    #[command(flatten)]
    pub job: JobArgs,
}

/// `malote documents open`
#[derive(Clone, Debug, Args)]
pub struct Open {
    /// The id of the document or file.
    pub id: String,
    /// The number of a version [default: the newest].
    #[arg(long, value_name = "N")]
    pub version: Option<i64>,
    /// Write it to this file, which must not exist yet [default: standard output].
    #[arg(long, value_name = "FILE")]
    pub output: Option<PathBuf>,
    /// How the API is reached.
    #[command(flatten)]
    pub api: ApiArgs,
}
