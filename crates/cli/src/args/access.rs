//! `malote tokens` and `malote audit`.

use clap::{Args, Subcommand, ValueEnum};

use super::subscriptions::Rows;
use super::values::at_least_one;
use super::{ApiArgs, Options, Output};

/// `malote tokens`
#[derive(Debug, Subcommand)]
pub enum Tokens {
    /// The newest first.
    List(TokenList),
    /// Add a token for a person or a program; it is shown once.
    Add(AddToken),
    /// Remove a token: it opens nothing from then on.
    Remove(RemoveToken),
}

/// `malote tokens list`
#[derive(Clone, Debug, Args)]
pub struct TokenList {
    /// The maximum number of rows.
    #[arg(long, value_name = "N", default_value_t = 50, value_parser = at_least_one::<u32>)]
    pub limit: u32,
    /// How it is asked and printed.
    #[command(flatten)]
    pub output: Output,
}

/// `malote tokens add`
#[derive(Clone, Debug, Args)]
pub struct AddToken {
    /// Its name, such as that of the person or program that gets it.
    pub name: String,
    /// What it allows.
    #[arg(long, value_enum)]
    pub role: RoleArg,
    /// How many days it is valid [default: until it is removed].
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=3650))]
    pub days: Option<u16>,
    /// How the answer is printed, and how the API is reached.
    #[command(flatten)]
    pub output: Output,
}

/// What a token allows.
#[derive(Clone, Copy, Debug, ValueEnum)]
pub enum RoleArg {
    /// Read lists and bodies, with personal data masked.
    Viewer,
    /// Also read personal data on request, retry, replay, discard, pause.
    Operator,
    /// Also change subscriptions and tokens, and read the audit.
    Admin,
}

/// `malote tokens remove`
#[derive(Clone, Debug, Args)]
pub struct RemoveToken {
    /// Its name.
    pub name: String,
    /// How the API is reached.
    #[command(flatten)]
    pub api: ApiArgs,
}

/// `malote users`
#[derive(Debug, Subcommand)]
pub enum Users {
    /// Sorted by how they log in.
    List(Rows),
}

/// `malote audit`
#[derive(Debug, Subcommand)]
pub enum Audit {
    /// The newest first.
    List(AuditList),
}

/// `malote audit list`
#[derive(Clone, Debug, Args)]
pub struct AuditList {
    /// Which of them.
    #[command(flatten)]
    pub filter: Options<access::AuditFilter>,
    /// The rest.
    #[command(flatten)]
    pub rows: Rows,
}
