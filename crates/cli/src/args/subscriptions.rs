//! `malote subscriptions` and `malote attempts`.

use std::path::PathBuf;

use clap::{Args, Subcommand, ValueEnum};

use super::values::{Moment, at_least_one, filter, moment};
use super::{ApiArgs, Options, Output, Role};

/// `malote subscriptions`
#[derive(Debug, Args)]
#[command(args_conflicts_with_subcommands = true)]
#[command(after_help = "Without a command it runs the role that delivers push subscriptions.")]
pub struct SubscriptionsArgs {
    /// Where the role has health and metrics.
    #[command(flatten)]
    pub role: Role,
    /// What to do; without it, the role runs.
    #[command(subcommand)]
    pub command: Option<Subscriptions>,
}

/// What is done with subscriptions.
#[derive(Debug, Subcommand)]
pub enum Subscriptions {
    /// The newest first.
    List(Rows),
    /// Add a subscription. The token or secret that is made for it is shown once, now.
    Add(Add),
    /// One subscription: what it asks for, and how it is.
    Show(Named),
    /// Change what a subscription asks for. What is not given stays, and so does its position.
    Edit(Edit),
    /// Pause a subscription: its events wait.
    Pause(Pause),
    /// Resume a subscription. Asks which of the events that waited are delivered, unless it is given.
    Resume(Resume),
    /// Set the position of a subscription, to have events again or to skip some.
    Seek(Seek),
    /// Show what would be delivered of the last events on record. Works before a subscription is added, too; nothing is saved.
    Test(Test),
    /// Make a new signing secret or token, which is shown once. Requests are signed with the previous secret, too, for a time; a
    /// previous token is no longer valid.
    RotateSecret(Rotate),
    /// Remove a subscription, with what waits for it.
    Remove(Remove),
    /// Make the subscriptions those of a TOML file: shows every change, and asks.
    Apply(Apply),
}

/// A list without a source.
#[derive(Clone, Debug, Args)]
pub struct Rows {
    /// The most rows.
    #[arg(long, value_name = "N", default_value_t = 50, value_parser = at_least_one::<u32>)]
    pub limit: u32,
    /// Only rows with this value.
    #[arg(long = "where", value_name = "FIELD=VALUE", value_parser = filter)]
    pub filters: Vec<(String, String)>,
    /// How it is asked and printed.
    #[command(flatten)]
    pub output: Output,
}

/// One subscription.
#[derive(Clone, Debug, Args)]
pub struct Named {
    /// Its name.
    pub name: String,
    /// How it is asked and printed.
    #[command(flatten)]
    pub output: Output,
}

/// How events get to the service.
#[derive(Clone, Debug, Default, Args)]
pub struct DoorArgs {
    /// malote posts each event to this URL, signed, and again until the service takes it.
    #[arg(long, value_name = "URL", group = "door")]
    pub push: Option<String>,
    /// The service reads its events from the API, with a token and a cursor of its own.
    #[arg(long, group = "door")]
    pub pull: bool,
    /// RabbitMQ has a queue for the service, subscription.NAME, bound to the topics.
    #[arg(long, group = "door")]
    pub queue: bool,
    /// With --queue: make a user of RabbitMQ that can read the queue and nothing else. Its password is shown once.
    #[arg(long, requires = "queue")]
    pub user: bool,
}

/// What a subscription asks for.
#[derive(Clone, Debug, Default, Args)]
pub struct Terms {
    /// The topics, such as 'mercado-eletronico:order.*,recuperador:#'; `*` is one word of a topic, `#` any number of words.
    #[arg(long, value_name = "PROVIDER:PATTERN,…")]
    pub topics: Option<String>,
    /// Only events for which this CEL expression over `event` and `data` is true.
    #[arg(long, value_name = "CEL")]
    pub filter: Option<String>,
    /// What is posted instead of the body: the value of this CEL expression, as JSON.
    #[arg(long, value_name = "CEL")]
    pub transform: Option<String>,
    /// Post events of one subject one after another, in the order of their receipt.
    #[arg(long, value_enum, value_name = "ORDER")]
    pub order: Option<OrderArg>,
    /// How long a request may take, in milliseconds.
    #[arg(long, value_name = "N")]
    pub timeout_ms: Option<u64>,
    /// The most requests at a time.
    #[arg(long, value_name = "N")]
    pub concurrency: Option<u32>,
    /// The most requests in a second.
    #[arg(long, value_name = "N")]
    pub rate: Option<u32>,
    /// How long to wait before each further attempt, such as 5s,30s,5m,2h; after the last one an event is undelivered.
    #[arg(long, value_name = "WAIT,…")]
    pub retry: Option<String>,
    /// The most events in one request; more than 1 makes it a CloudEvents batch.
    #[arg(long, value_name = "N")]
    pub batch: Option<u32>,
    /// A header of every request, such as 'x-api-key: …'; can be repeated. The value is a secret: see also --header-file.
    #[arg(long, value_name = "NAME: VALUE")]
    pub header: Vec<String>,
    /// A file with headers of every request, one `name: value` on each line; - is standard input.
    #[arg(long, value_name = "FILE")]
    pub header_file: Option<PathBuf>,
    /// Authenticate requests with HTTP Basic as this user; the password is in --auth-file.
    #[arg(long, value_name = "USER", group = "auth", requires = "auth_file")]
    pub basic: Option<String>,
    /// Authenticate requests with the bearer token in --auth-file.
    #[arg(long, group = "auth", requires = "auth_file")]
    pub bearer: bool,
    /// Authenticate requests with a token from this OAuth 2 endpoint; the client's secret is in --auth-file.
    #[arg(long, value_name = "URL", group = "auth", requires = "auth_file", requires = "oauth2_client")]
    pub oauth2: Option<String>,
    /// The client that asks for the token.
    #[arg(long, value_name = "ID", requires = "oauth2")]
    pub oauth2_client: Option<String>,
    /// The scope that the token is asked for.
    #[arg(long, value_name = "SCOPE", requires = "oauth2")]
    pub oauth2_scope: Option<String>,
    /// The file with the password, the token or the client's secret; - is standard input.
    #[arg(long, value_name = "FILE")]
    pub auth_file: Option<PathBuf>,
    /// A file with the certificate authorities to trust at this endpoint instead of those of the system, PEM.
    #[arg(long, value_name = "FILE")]
    pub tls_ca: Option<PathBuf>,
    /// A file with the certificate that malote shows to the endpoint, PEM; its key is in --tls-key.
    #[arg(long, value_name = "FILE", requires = "tls_key")]
    pub tls_certificate: Option<PathBuf>,
    /// The file with the key of that certificate, PEM; - is standard input.
    #[arg(long, value_name = "FILE")]
    pub tls_key: Option<PathBuf>,
    /// The secret that requests are signed with, whsec_…; one is made where none is given. See also --secret-file.
    #[arg(long, value_name = "SECRET", conflicts_with = "secret_file")]
    pub secret: Option<String>,
    /// The file with that secret; - is standard input.
    #[arg(long, value_name = "FILE")]
    pub secret_file: Option<PathBuf>,
}

/// Which events are posted one after another.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum OrderArg {
    /// None.
    None,
    /// Those of one subject.
    Subject,
}

/// `malote subscriptions add`
#[derive(Clone, Debug, Args)]
#[command(group = clap::ArgGroup::new("door").required(true))]
pub struct Add {
    /// Its name: lower-case letters, digits and '-'.
    pub name: String,
    /// Through which door.
    #[command(flatten)]
    pub door: DoorArgs,
    /// What it asks for.
    #[command(flatten)]
    pub terms: Terms,
    /// Where it begins: now, beginning, a time or day, how long ago, an event's id, or a position of the feed.
    #[arg(long, value_name = "PLACE", default_value = "now")]
    pub begin: String,
    /// How it is asked and printed.
    #[command(flatten)]
    pub output: Output,
}

/// `malote subscriptions edit`
#[derive(Clone, Debug, Args)]
pub struct Edit {
    /// Its name.
    pub name: String,
    /// What changes.
    #[command(flatten)]
    pub terms: Terms,
    /// Deliver every event of the topics from now on.
    #[arg(long, conflicts_with = "filter")]
    pub no_filter: bool,
    /// Post bodies as they are from now on.
    #[arg(long, conflicts_with = "transform")]
    pub no_transform: bool,
    /// Post without this header from now on; can be repeated.
    #[arg(long, value_name = "NAME")]
    pub no_header: Vec<String>,
    /// Post without authentication from now on, besides the signature.
    #[arg(long, conflicts_with = "auth")]
    pub no_auth: bool,
    /// Post as fast as the endpoint answers from now on.
    #[arg(long, conflicts_with = "rate")]
    pub no_rate: bool,
    /// Trust the authorities of the system, and show no certificate from now on.
    #[arg(long, conflicts_with_all = ["tls_ca", "tls_certificate", "tls_key"])]
    pub no_tls: bool,
    /// Delete the user of RabbitMQ that reads the queue.
    #[arg(long)]
    pub no_user: bool,
    /// Post to this URL from now on.
    #[arg(long, value_name = "URL")]
    pub push: Option<String>,
    /// How it is asked and printed.
    #[command(flatten)]
    pub output: Output,
}

/// `malote subscriptions pause`
#[derive(Clone, Debug, Args)]
pub struct Pause {
    /// Its name.
    pub name: String,
    /// Why; shown with the subscription.
    #[arg(long, value_name = "TEXT", default_value = "")]
    pub reason: String,
    /// How the API is reached.
    #[command(flatten)]
    pub api: ApiArgs,
}

/// `malote subscriptions resume`
#[derive(Clone, Debug, Args)]
pub struct Resume {
    /// Its name.
    pub name: String,
    /// Deliver every event that waited.
    #[arg(long, group = "waited")]
    pub all: bool,
    /// Deliver the events that were received at this time or later: 2026-11-22T16:00:00Z, a day, or 30m, 2h, 7d ago.
    #[arg(long, value_name = "TIME", group = "waited")]
    pub since: Option<String>,
    /// Deliver none of the events that waited.
    #[arg(long, group = "waited")]
    pub none: bool,
    /// How the API is reached.
    #[command(flatten)]
    pub api: ApiArgs,
}

/// `malote subscriptions seek`
#[derive(Clone, Debug, Args)]
pub struct Seek {
    /// Its name.
    pub name: String,
    /// Where it goes on: beginning, now, a time or day, how long ago, an event's id, or a position of the feed.
    #[arg(long, value_name = "PLACE")]
    pub to: String,
    /// Of a push subscription that goes back: deliver what is between beside the live events, at most so many in a second.
    #[arg(long, value_name = "N", value_parser = at_least_one::<u32>)]
    pub rate: Option<u32>,
    /// Do not ask.
    #[arg(long)]
    pub yes: bool,
    /// How the API is reached.
    #[command(flatten)]
    pub api: ApiArgs,
}

/// `malote subscriptions test`
#[derive(Clone, Debug, Args)]
pub struct Test {
    /// Its name; with --topics, that of one that need not exist.
    pub name: String,
    /// Only this event.
    #[arg(long, value_name = "ID")]
    pub event: Option<String>,
    /// The last events on record, so many of them [default: 1000].
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=1000), conflicts_with = "event")]
    pub last: Option<u32>,
    /// Through which door.
    #[command(flatten)]
    pub door: DoorArgs,
    /// What is tried instead of what is saved.
    #[command(flatten)]
    pub terms: Terms,
    /// Show personal data in what would be delivered, which the audit then has.
    #[arg(long)]
    pub reveal: bool,
    /// How it is asked and printed.
    #[command(flatten)]
    pub output: Output,
}

/// `malote subscriptions remove`
#[derive(Clone, Debug, Args)]
pub struct Remove {
    /// Its name.
    pub name: String,
    /// Do not ask.
    #[arg(long)]
    pub yes: bool,
    /// How the API is reached.
    #[command(flatten)]
    pub api: ApiArgs,
}

/// `malote subscriptions apply`
#[derive(Clone, Debug, Args)]
pub struct Apply {
    /// The file, with a table [[subscriptions]] for each.
    pub file: PathBuf,
    /// Remove subscriptions that are not in the file.
    #[arg(long)]
    pub prune: bool,
    /// Only show what would change.
    #[arg(long)]
    pub dry_run: bool,
    /// Do not ask.
    #[arg(long)]
    pub yes: bool,
    /// How the API is reached.
    #[command(flatten)]
    pub api: ApiArgs,
}

/// `malote subscriptions rotate-secret`
#[derive(Clone, Debug, Args)]
pub struct Rotate {
    /// Its name.
    pub name: String,
    /// The file with the new signing secret; - is standard input [default: one is made].
    #[arg(long, value_name = "FILE")]
    pub secret_file: Option<PathBuf>,
    /// How long requests are signed with the previous secret, too, in seconds [default: a day].
    #[arg(long, value_name = "N")]
    pub keep_s: Option<u64>,
    /// How it is asked and printed.
    #[command(flatten)]
    pub output: Output,
}

/// `malote attempts`
#[derive(Debug, Subcommand)]
pub enum Attempts {
    /// The newest first.
    List(AttemptList),
    /// Every attempt to deliver one event, with the beginning of each answer.
    Show(super::RevealingShow),
    /// Send events again, at once and each with a new schedule: those that are undelivered or wait, or all of a period.
    Retry(Resend),
    /// Every event of a period that was tried to be sent, and whether it was.
    Report(AttemptList),
}

/// `malote undelivered`
#[derive(Debug, Subcommand)]
pub enum Undelivered {
    /// The newest first.
    List(AttemptList),
    /// Close events without another attempt: they are listed no more. Their attempts stay on record, and the reason in the audit.
    Discard(DiscardUndelivered),
}

/// A list of attempts, or of what they came to.
#[derive(Clone, Debug, Args)]
pub struct AttemptList {
    /// Which of them.
    #[command(flatten)]
    pub filter: Options<subscriptions::AttemptFilter>,
    /// The rest.
    #[command(flatten)]
    pub rows: Rows,
}

/// Which events of a push subscription.
#[derive(Clone, Debug, Args)]
pub struct Which {
    /// Only these events.
    #[arg(value_name = "ID")]
    pub ids: Vec<String>,
    /// The subscription.
    #[arg(long, value_name = "NAME")]
    pub subscription: String,
    /// Only events received at this time or later: 2026-11-22T16:00:00Z, 2026-11-22, yesterday (days of time.zone), or 30m, 2h, 7d ago.
    #[arg(long, value_name = "TIME", value_parser = moment)]
    pub from: Option<Moment>,
    /// Only events received before this time.
    #[arg(long, value_name = "TIME", value_parser = moment)]
    pub to: Option<Moment>,
    /// Only events of this topic.
    #[arg(long, value_name = "TOPIC")]
    pub topic: Option<String>,
    /// Only events whose last attempt was answered with this status.
    #[arg(long, value_name = "STATUS")]
    pub status: Option<i64>,
    /// Only events with this text in the error of their last attempt.
    #[arg(long, value_name = "TEXT")]
    pub error: Option<String>,
    /// Only say how many it would be.
    #[arg(long)]
    pub dry_run: bool,
    /// Do not ask, however many it is.
    #[arg(long)]
    pub yes: bool,
    /// How the API is reached.
    #[command(flatten)]
    pub api: ApiArgs,
}

/// `malote attempts retry`
#[derive(Clone, Debug, Args)]
pub struct Resend {
    /// Which events.
    #[command(flatten)]
    pub which: Which,
    /// Send those that were delivered once more, too; needs ids or --from.
    #[arg(long)]
    pub again: bool,
}

/// `malote undelivered discard`
#[derive(Clone, Debug, Args)]
pub struct DiscardUndelivered {
    /// Which events.
    #[command(flatten)]
    pub which: Which,
    /// Why; the audit has it.
    #[arg(long, value_name = "TEXT", required_unless_present = "dry_run")]
    pub reason: Option<String>,
}
