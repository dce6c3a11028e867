//! The command line: the one registry of commands, from which [`parser`](crate::parser), help and reference are made.

mod values;

use std::net::SocketAddr;
use std::path::PathBuf;

use clap::builder::{OsStringValueParser, PossibleValuesParser, TypedValueParser};
use clap::error::ErrorKind;
use clap::{ArgMatches, Args, Command as Tree, FromArgMatches, Parser, Subcommand, ValueEnum};
use ledger::EventState;
use view::View;

pub use self::values::Moment;
use self::values::{at_least_one, filter, moment};
use crate::domains;

/// Takes the webhooks that providers post, loses none, and books each where it belongs.
#[derive(Debug, Parser)]
#[command(name = "malote", version, max_term_width = 110, propagate_version = false)]
#[command(after_help = "Start with `malote demo`. Settings: `malote config show --default`.")]
pub struct Cli {
    /// The configuration file [default: ./malote.toml if it is there, else the built-in defaults].
    // An empty variable is as good as none.
    #[arg(long, global = true, value_name = "FILE", env = "MALOTE_CONFIG",
        value_parser = OsStringValueParser::new().map(PathBuf::from))]
    pub config: Option<PathBuf>,
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// The commands of malote.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Start everything embedded, post every documented example of the four providers, show what was booked.
    Demo(Demo),
    /// Run every role in one process.
    Up,
    /// Run the ingress: take webhooks and publish them.
    Ingress(Role),
    /// Run the ledger: record every event and its outcome.
    Ledger(Role),
    /// Run one consumer.
    Consume(Consume),
    /// Run the administration API.
    Console(Role),
    /// Post invented events to the configured sources, as the providers would.
    Simulate(Simulate),
    /// `malote events`; the declaration of its list describes it.
    #[command(subcommand)]
    Events(Events),
    /// `malote dead`; the declaration of its list describes it.
    #[command(subcommand)]
    Dead(Dead),
    /// `malote rejected`; the declaration of its list describes it.
    #[command(subcommand)]
    Rejected(Rejected),
    /// `malote unrouted`; the declaration of its list describes it.
    #[command(subcommand)]
    Unrouted(Unrouted),
    /// The events on record in an order that never changes, the oldest first; with `--follow`, also those that come.
    Feed(Feed),
    /// What was asked to be sent again or discarded, and how far it is.
    #[command(subcommand)]
    Jobs(Jobs),
    /// Daily reconciliation: what was received, its outcome, and every difference. Status 1 if there is one.
    Reconcile(Reconcile),
    /// A list of a domain.
    #[command(flatten)]
    Book(Book),
    /// How full each queue is, how many consumers take from it, and what waits in the spool of each ingress.
    Queues(Queues),
    /// Exchanges, queues and bindings.
    #[command(subcommand)]
    Topology(Topology),
    /// The configuration.
    #[command(subcommand)]
    Config(Config),
    /// Reach broker, store and API; say what is wrong and how to fix it.
    Doctor(Doctor),
    /// Print the OpenAPI document of the administration API.
    Openapi,
    /// Print the reference of all commands as Markdown.
    #[command(hide = true)]
    HelpMarkdown,
}

/// `malote demo`
#[derive(Debug, Args)]
pub struct Demo {
    /// End when everything is booked, with status 1 if anything is not as expected.
    #[arg(long)]
    pub once: bool,
    /// Keep the data in this folder [default: a temporary one that is removed at the end].
    #[arg(long, value_name = "FOLDER")]
    pub keep: Option<PathBuf>,
}

/// A role that runs by itself.
#[derive(Debug, Args)]
pub struct Role {
    /// Where to listen instead of the configured address.
    #[arg(long, value_name = "ADDRESS")]
    pub listen: Option<SocketAddr>,
}

/// `malote consume`
#[derive(Debug, Args)]
pub struct Consume {
    /// Which consumer.
    #[arg(value_parser = PossibleValuesParser::new(domains::ALL.iter().map(|domain| domain.name())))]
    pub consumer: String,
    /// Where health and metrics are.
    #[command(flatten)]
    pub role: Role,
}

/// `malote simulate`
#[derive(Clone, Debug, Args)]
pub struct Simulate {
    /// Only this source [default: every configured one].
    #[arg(long, value_name = "NAME")]
    pub source: Option<String>,
    /// Requests per second [default: as many as are answered].
    #[arg(long, value_name = "N", value_parser = at_least_one::<u32>)]
    pub rate: Option<u32>,
    /// How many requests.
    #[arg(long, value_name = "N", default_value_t = 100, value_parser = at_least_one::<u64>)]
    pub count: u64,
    /// How many requests are under way at once.
    #[arg(long, value_name = "N", default_value_t = 64, value_parser = clap::value_parser!(u16).range(1..=4096))]
    pub connections: u16,
    /// The ingress [default: the configured address].
    #[arg(long, value_name = "URL")]
    pub url: Option<String>,
    /// Post although the ingress is on another machine: what it books is not undone.
    #[arg(long)]
    pub yes: bool,
}

/// How the administration API is reached.
#[derive(Clone, Debug, Default, Args)]
pub struct ApiArgs {
    /// The administration API [default: the configured address].
    #[arg(long, value_name = "URL", env = "MALOTE_API")]
    pub api: Option<String>,
    /// Its bearer token [default: the configured one, or the data directory's].
    #[arg(long, value_name = "TOKEN", env = "MALOTE_TOKEN", hide_env_values = true)]
    pub token: Option<String>,
}

/// What is asked of the administration API, and how it is printed.
#[derive(Clone, Debug, Default, Args)]
pub struct Output {
    /// Print JSON.
    #[arg(long)]
    pub json: bool,
    /// How the API is reached.
    #[command(flatten)]
    pub api: ApiArgs,
}

/// A list and its filters.
#[derive(Debug, Subcommand)]
pub enum Listing {
    /// The newest first.
    List(List),
}

/// A command for each list of a domain, as the domain declares it.
#[derive(Debug)]
pub struct Book {
    /// Which list.
    pub view: &'static View,
    /// The query.
    pub listing: Listing,
}

impl Subcommand for Book {
    fn augment_subcommands(tree: Tree) -> Tree {
        domains::books().fold(tree, |tree, view| {
            let command = Listing::augment_subcommands(Tree::new(view.name).about(view.about));
            tree.subcommand(command.subcommand_required(true).arg_required_else_help(true))
        })
    }

    fn augment_subcommands_for_update(tree: Tree) -> Tree {
        Self::augment_subcommands(tree)
    }

    fn has_subcommand(name: &str) -> bool {
        domains::books().any(|view| view.name == name)
    }
}

impl FromArgMatches for Book {
    fn from_arg_matches(matches: &ArgMatches) -> Result<Self, clap::Error> {
        let found = matches
            .subcommand()
            .and_then(|(name, matches)| Some((domains::books().find(|view| view.name == name)?, matches)));
        let (view, matches) = found.ok_or_else(|| clap::Error::new(ErrorKind::InvalidSubcommand))?;
        Ok(Self { view, listing: Listing::from_arg_matches(matches)? })
    }

    fn update_from_arg_matches(&mut self, matches: &ArgMatches) -> Result<(), clap::Error> {
        *self = Self::from_arg_matches(matches)?;
        Ok(())
    }
}

/// `list`
#[derive(Clone, Debug, Args)]
pub struct List {
    /// The most rows.
    #[arg(long, value_name = "N", default_value_t = 50, value_parser = at_least_one::<u32>)]
    pub limit: u32,
    /// Only rows with this value.
    #[arg(long = "where", value_name = "FIELD=VALUE", value_parser = filter)]
    pub filters: Vec<(String, String)>,
    /// Only rows of this source.
    #[arg(long, value_name = "NAME")]
    pub source: Option<String>,
    /// How it is asked and printed.
    #[command(flatten)]
    pub output: Output,
}

/// `malote events`
#[derive(Debug, Subcommand)]
pub enum Events {
    /// The newest first.
    List(EventList),
    /// One event: its envelope, its body and its outcome.
    Show(Show),
    /// Send recorded events again. A consumer that has handled an event does not handle it twice.
    Replay(Replay),
}

/// `malote events replay`
#[derive(Clone, Debug, Args)]
pub struct Replay {
    /// Only these events.
    #[arg(value_name = "ID")]
    pub ids: Vec<String>,
    /// Only events of this source.
    #[arg(long, value_name = "NAME")]
    pub source: Option<String>,
    /// Which events.
    #[command(flatten)]
    pub filter: EventFilters,
    /// All events; required when no other filter is given.
    #[arg(long)]
    pub everything: bool,
    /// Only to this consumer.
    #[arg(long, value_name = "CONSUMER", conflicts_with = "all")]
    pub to_consumer: Option<String>,
    /// To every consumer of the topic, and to your own queues: the default.
    #[arg(long)]
    pub all: bool,
    /// Have consumers handle again what they have handled: each event is sent under a new id.
    #[arg(long)]
    pub again: bool,
    /// How it is done.
    #[command(flatten)]
    pub job: JobArgs,
}

/// How a job is asked for and followed.
#[derive(Clone, Debug, Default, Args)]
pub struct JobArgs {
    /// At most so many per second [default: as fast as the broker confirms].
    #[arg(long, value_name = "N", value_parser = at_least_one::<u32>)]
    pub rate: Option<u32>,
    /// Only say how many it would be.
    #[arg(long)]
    pub dry_run: bool,
    /// Do not ask, however many it is.
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

/// `retry`
#[derive(Clone, Debug, Args)]
pub struct Retry {
    /// Which rows.
    #[command(flatten)]
    pub choice: Choice,
    /// How it is done.
    #[command(flatten)]
    pub job: JobArgs,
}

/// `discard`
#[derive(Clone, Debug, Args)]
pub struct Discard {
    /// Which rows.
    #[command(flatten)]
    pub choice: Choice,
    /// Why: kept on record.
    #[arg(long, value_name = "TEXT")]
    pub reason: String,
    /// How it is done.
    #[command(flatten)]
    pub job: JobArgs,
}

/// `malote dead`
#[derive(Debug, Subcommand)]
pub enum Dead {
    /// The newest first.
    List(DeadList),
    /// The dead letters of one event: error, every attempt, headers and body.
    Show(Show),
    /// Send dead letters back to their consumers. Their history goes along.
    Retry(DeadRetry),
    /// Let dead letters be, with the reason on record.
    Discard(DeadDiscard),
}

/// `malote dead list`
#[derive(Clone, Debug, Args)]
pub struct DeadList {
    /// Group by consumer and error; a group's id goes with `retry --group` and `discard --group`.
    #[arg(long)]
    pub group: bool,
    /// The rest.
    #[command(flatten)]
    pub list: List,
}

/// `malote dead retry`
#[derive(Clone, Debug, Args)]
pub struct DeadRetry {
    /// Only this group of `malote dead list --group`.
    #[arg(long, value_name = "GROUP")]
    pub group: Option<String>,
    /// Only what this consumer gave up.
    #[arg(long, value_name = "CONSUMER")]
    pub consumer: Option<String>,
    /// The rest.
    #[command(flatten)]
    pub retry: Retry,
}

/// `malote dead discard`
#[derive(Clone, Debug, Args)]
pub struct DeadDiscard {
    /// Only this group of `malote dead list --group`.
    #[arg(long, value_name = "GROUP")]
    pub group: Option<String>,
    /// Only what this consumer gave up.
    #[arg(long, value_name = "CONSUMER")]
    pub consumer: Option<String>,
    /// The rest.
    #[command(flatten)]
    pub discard: Discard,
}

/// `malote unrouted`
#[derive(Debug, Subcommand)]
pub enum Unrouted {
    /// The newest first.
    List(List),
    /// Send unrouted events again, now that a queue is bound to their topic.
    Retry(Retry),
    /// Let unrouted events be, with the reason on record.
    Discard(Discard),
}

/// `malote jobs`
#[derive(Debug, Subcommand)]
pub enum Jobs {
    /// The newest first.
    List(JobList),
    /// One job.
    Show(Show),
    /// Follow a job to its end.
    Watch(JobRef),
    /// Cancel a job; messages already sent still arrive.
    Cancel(JobRef),
}

/// `malote jobs list`
#[derive(Clone, Debug, Args)]
pub struct JobList {
    /// The most rows.
    #[arg(long, value_name = "N", default_value_t = 50, value_parser = at_least_one::<u32>)]
    pub limit: u32,
    /// How it is asked and printed.
    #[command(flatten)]
    pub output: Output,
}

/// A job.
#[derive(Clone, Debug, Args)]
pub struct JobRef {
    /// Its id.
    pub id: String,
    /// How the API is reached.
    #[command(flatten)]
    pub api: ApiArgs,
}

/// `malote reconcile`
#[derive(Clone, Debug, Args)]
pub struct Reconcile {
    /// The day of receipt (of time.zone): 2026-11-24, today or yesterday.
    #[arg(long, value_name = "DAY", default_value = "today")]
    pub day: String,
    /// The most differences to show.
    #[arg(long, value_name = "N", default_value_t = 50, value_parser = at_least_one::<u32>)]
    pub limit: u32,
    /// How it is asked and printed.
    #[command(flatten)]
    pub output: Output,
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
    /// The most events, without --follow.
    #[arg(long, value_name = "N", default_value_t = 50, value_parser = at_least_one::<u32>, conflicts_with = "follow")]
    pub limit: u32,
    /// Print each event as a CloudEvent, one JSON object on each line.
    #[arg(long)]
    pub json: bool,
    /// How the API is reached.
    #[command(flatten)]
    pub api: ApiArgs,
}

/// `malote doctor`
#[derive(Clone, Debug, Args)]
pub struct Doctor {
    /// The operations address of a process that is asked how it is; can be repeated [default: the configured addresses].
    #[arg(long, value_name = "URL")]
    pub process: Vec<String>,
}

/// `malote queues`
#[derive(Clone, Debug, Args)]
pub struct Queues {
    /// The operations address of a process whose spool and consumers are shown; can be repeated [default:
    /// operations.listen].
    #[arg(long, value_name = "URL", alias = "ingress")]
    pub process: Vec<String>,
    /// How it is asked and printed.
    #[command(flatten)]
    pub output: Output,
}

/// Which events.
#[derive(Clone, Debug, Default, Args)]
pub struct EventFilters {
    /// Only events of this provider.
    #[arg(long, value_name = "NAME")]
    pub provider: Option<String>,
    /// Only events of this topic.
    #[arg(long, value_name = "TOPIC")]
    pub topic: Option<String>,
    /// Only events in this state.
    #[arg(long, value_name = "STATE",
        value_parser = PossibleValuesParser::new(EventState::ALL.map(EventState::name)))]
    pub state: Option<String>,
    /// Only events about this subject, such as order/0000593098.
    #[arg(long, value_name = "SUBJECT")]
    pub subject: Option<String>,
    /// Only events received at this time or later: 2026-11-22T16:00:00Z, 2026-11-22 (a day of time.zone), or 30m, 2h, 7d ago.
    #[arg(long, visible_alias = "since", value_name = "TIME", value_parser = moment)]
    pub from: Option<Moment>,
    /// Only events received before this time.
    #[arg(long, visible_alias = "until", value_name = "TIME", value_parser = moment)]
    pub to: Option<Moment>,
}

/// `malote events list`
#[derive(Clone, Debug, Args)]
pub struct EventList {
    /// Which events.
    #[command(flatten)]
    pub filter: EventFilters,
    /// The rest.
    #[command(flatten)]
    pub list: List,
}

/// `malote rejected`
#[derive(Debug, Subcommand)]
pub enum Rejected {
    /// The newest first.
    List(List),
    /// One rejected body and its cause.
    Show(Show),
    /// Read rejected bodies again, now that the contract or the configuration is fixed.
    Retry(Retry),
    /// Let rejected bodies be, with the reason on record.
    Discard(Discard),
}

/// `show`
#[derive(Clone, Debug, Args)]
pub struct Show {
    /// Its id.
    pub id: String,
    /// How it is asked and printed.
    #[command(flatten)]
    pub output: Output,
}

/// `malote topology`
#[derive(Debug, Subcommand)]
pub enum Topology {
    /// What is declared.
    Show {
        /// In which form.
        #[arg(long, value_enum, default_value_t = TopologyFormat::Table)]
        format: TopologyFormat,
    },
    /// Declare it on the configured broker, and migrate what an earlier release declared.
    ///
    /// On RabbitMQ, the arguments of a queue cannot change. Messages in retry queues of an earlier release are moved to
    /// the current ones, and the emptied queues are deleted. A queue with another delivery limit and without a consumer
    /// is emptied into a temporary queue, deleted, declared again and refilled. Nothing is lost if this is interrupted:
    /// run it again. RabbitMQ's management API shows whether a queue is empty (broker.management_url); without it, no
    /// queue is deleted. Roles of this release work on either topology. One of an earlier release does not start on a
    /// replaced queue: upgrade every process first.
    Apply,
}

/// The form of `malote topology show`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum TopologyFormat {
    /// For people.
    Table,
    /// RabbitMQ definitions, for `rabbitmqctl import_definitions`.
    Definitions,
    /// The topic reference: every provider, topic and meaning, and who consumes it.
    Markdown,
    /// Exchanges, queues and bindings as JSON.
    Json,
}

/// `malote config`
#[derive(Debug, Subcommand)]
pub enum Config {
    /// Report every mistake of file and environment.
    Check,
    /// Print what is in force, without secrets.
    Show {
        /// Print the commented defaults instead: the reference of every setting.
        #[arg(long)]
        default: bool,
    },
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_command_of_the_design_is_there() {
        for line in [
            "demo --once",
            "up",
            "ingress",
            "ledger",
            "console --listen 127.0.0.1:0",
            "consume invoices",
            "consume receivables",
            "consume prescriptions --listen 127.0.0.1:0",
            "simulate --source me --rate 10 --count 5",
            "events list --state dead --limit 5 --json",
            "events show 0199d3c0-1f2e-7abc-8def-0123456789ab",
            "dead list",
            "rejected list",
            "unrouted list",
            "events replay --source me --state dead --from 2026-11-22 --to 2026-11-23 --to-consumer invoices --rate 100",
            "events replay --topic renewed --all --again --dry-run --yes",
            "dead list --group",
            "dead show 0199d3c0-1f2e-7abc-8def-0123456789ab",
            "dead retry --group 0a1b2c3d --yes",
            "dead discard --consumer invoices --reason known",
            "rejected retry --everything",
            "rejected discard 0199d3c0-1f2e-7abc-8def-0123456789ab --reason spam",
            "unrouted retry --where topic=renewed",
            "jobs list",
            "jobs cancel 0199d3c0-1f2e-7abc-8def-0123456789ab",
            "reconcile --day yesterday --json",
            "queues --ingress http://127.0.0.1:1 --ingress http://127.0.0.1:2",
            "invoices list",
            "receivables list --where state=open",
            "agreements list --api http://127.0.0.1:1 --token x",
            "prescriptions list",
            "queues",
            "topology show --format definitions",
            "topology apply --config malote.toml",
            "config check",
            "config show --default",
            "doctor",
        ] {
            let words = std::iter::once("malote").chain(line.split(' '));
            if let Err(error) = Cli::try_parse_from(words) {
                panic!("{line}: {error}");
            }
        }
        assert!(Cli::try_parse_from(["malote", "consume", "ledgers"]).is_err());
    }
}
