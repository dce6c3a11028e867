//! The command line: the one registry of commands, from which [`parser`](crate::parser), help and reference are made.

pub mod access;
mod choice;
pub mod dead;
pub mod documents;
pub mod feed;
mod options;
pub mod sources;
pub mod subscriptions;
mod values;

use std::net::SocketAddr;
use std::path::PathBuf;

use clap::builder::{OsStringValueParser, PossibleValuesParser, TypedValueParser};
use clap::error::ErrorKind;
use clap::{ArgMatches, Args, Command as Tree, FromArgMatches, Parser, Subcommand, ValueEnum};
use clap_complete::Shell;
use ledger::EventFilter;
use ledger::jobs::JobFilter;
use view::View;

use self::access::{Audit, Tokens, Users};
pub use self::choice::{Choice, EventChoice, JobArgs};
use self::dead::Dead;
use self::documents::DocumentsArgs;
use self::feed::{Feed, Tail};
pub use self::options::Options;
use self::sources::Sources;
use self::subscriptions::{Attempts, Rows, SubscriptionsArgs, Undelivered};
pub use self::values::{Moment, moment};
use self::values::{at_least_one, filter};
use crate::registry;

/// Receives webhooks from providers and delivers each event to every subscriber.
#[derive(Debug, Parser)]
#[command(name = "malote", version, max_term_width = 110, propagate_version = false)]
#[command(after_help = "Start with `malote demo`. Settings: `malote config show --default`.")]
pub struct Cli {
    /// The configuration file [default: ./malote.toml if it is there, else the built-in defaults].
    // An empty variable is as good as none.
    #[arg(long, global = true, value_name = "FILE", env = "MALOTE_CONFIG",
        value_parser = OsStringValueParser::new().map(PathBuf::from))]
    pub config: Option<PathBuf>,
    /// Show times in UTC [default: on the clocks of TZ, else of this machine]. JSON always has UTC.
    #[arg(long, global = true)]
    pub utc: bool,
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// The commands of malote.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Start everything embedded, post every documented example of every built-in provider, show what was booked.
    Demo(Demo),
    /// Run every role in one process.
    Up,
    /// Run the ingress: receive webhooks and publish them.
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
    /// The events on record in an order that never changes, the oldest first; with `--follow`, also new ones.
    Feed(Feed),
    /// `malote subscriptions`; the declaration of its list describes it.
    Subscriptions(Box<SubscriptionsArgs>),
    /// `malote documents`; the declaration of its list describes it.
    Documents(Box<DocumentsArgs>),
    /// `malote attempts`; the declaration of its list describes it.
    #[command(subcommand)]
    Attempts(Attempts),
    /// `malote undelivered`; the declaration of its list describes it.
    #[command(subcommand)]
    Undelivered(Undelivered),
    /// Jobs that send again, discard or reconcile, and their progress.
    #[command(subcommand)]
    Jobs(Jobs),
    /// Daily reconciliation: what was received, its outcome, and every difference. Status 1 if there is one.
    Reconcile(Reconcile),
    /// A list of a domain.
    #[command(flatten)]
    Book(Book),
    /// How full each queue is, how many consumers take from it, and what waits in the spool of each ingress.
    Queues(Queues),
    /// What needs somebody, what each source sends, and what runs. With `--check`, status 1 if something needs somebody.
    Overview(Overview),
    /// Where events go: each topic of each provider, and the queue or subscription that takes it.
    Routes(Routes),
    /// `malote tokens`; the declaration of its list describes it.
    #[command(subcommand)]
    Tokens(Tokens),
    /// `malote users`; the declaration of its list describes it.
    #[command(subcommand)]
    Users(Users),
    /// `malote audit`; the declaration of its list describes it.
    #[command(subcommand)]
    Audit(Audit),
    /// `malote sources`; the declaration of its list describes it.
    #[command(subcommand)]
    Sources(Sources),
    /// Exchanges, queues and bindings.
    #[command(subcommand)]
    Topology(Topology),
    /// The configuration.
    #[command(subcommand)]
    Config(Config),
    /// Check broker, store and API, and say how to fix what is wrong.
    Doctor(Doctor),
    /// Print the OpenAPI document of the administration API.
    Openapi,
    /// Print the completions of a shell: in bash, `source <(malote completions bash)`.
    Completions {
        /// Which shell.
        shell: Shell,
    },
    /// Print the values of the last of these words of a command; the completions ask it.
    #[command(hide = true)]
    Complete {
        /// The words after `malote`, of which the last one is completed.
        #[arg(value_name = "WORD", allow_hyphen_values = true, trailing_var_arg = true)]
        words: Vec<String>,
    },
    /// Write the manual, a page for each command, to a folder such as /usr/local/share/man/man1.
    Manual {
        /// The folder, which is made if it is missing.
        #[arg(value_name = "FOLDER")]
        folder: PathBuf,
    },
    /// Print the types of domain events, or the JSON Schema of the data of one.
    Schemas(Schemas),
    /// Print the names of the presets, or the page of one as Markdown.
    #[command(hide = true)]
    ProviderPages(sources::Pages),
    /// Print the reference of all commands as Markdown.
    #[command(hide = true)]
    HelpMarkdown,
}

/// `malote schemas`
#[derive(Debug, Args)]
pub struct Schemas {
    /// Print the types as JSON, with what each means.
    #[arg(long, conflicts_with = "event")]
    pub json: bool,
    /// Its schema.
    #[arg(value_name = "TYPE", value_parser = PossibleValuesParser::new(registry::events().map(|event| event.name)))]
    pub event: Option<String>,
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
    #[arg(value_parser = PossibleValuesParser::new(registry::ALL.iter().map(|domain| domain.name())))]
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
    /// The number of requests in progress at once.
    #[arg(long, value_name = "N", default_value_t = 64, value_parser = clap::value_parser!(u16).range(1..=4096))]
    pub connections: u16,
    /// The ingress [default: the configured address].
    #[arg(long, value_name = "URL")]
    pub url: Option<String>,
    /// Post even if the ingress is on another machine: what it books cannot be undone.
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
        let (beside, books): (Vec<_>, Vec<_>) = registry::books().partition(|view| view.name.contains('/'));
        books.into_iter().fold(tree, |tree, view| {
            let command = Listing::augment_subcommands(Tree::new(view.name).about(view.about));
            // Another list beside it: `prescriptions files`.
            let beside = beside.iter().filter_map(|other| Some((other, name_beside(view, other)?)));
            let command = beside.fold(command, |command, (other, name)| {
                command.subcommand(List::augment_args(Tree::new(name).about(other.about)))
            });
            tree.subcommand(command.subcommand_required(true).arg_required_else_help(true))
        })
    }

    fn augment_subcommands_for_update(tree: Tree) -> Tree {
        Self::augment_subcommands(tree)
    }

    fn has_subcommand(name: &str) -> bool {
        registry::books().any(|view| view.name == name)
    }
}

/// The name of the command of a list beside another one.
fn name_beside(view: &View, other: &'static View) -> Option<&'static str> {
    other.name.strip_prefix(view.name)?.strip_prefix('/')
}

impl FromArgMatches for Book {
    fn from_arg_matches(matches: &ArgMatches) -> Result<Self, clap::Error> {
        let found = matches
            .subcommand()
            .and_then(|(name, matches)| Some((registry::books().find(|view| view.name == name)?, matches)));
        let (view, matches) = found.ok_or_else(|| clap::Error::new(ErrorKind::InvalidSubcommand))?;
        let beside = matches.subcommand().and_then(|(name, matches)| {
            let other = registry::books().find(|other| name_beside(view, other) == Some(name))?;
            Some((other, matches))
        });
        Ok(match beside {
            Some((view, matches)) => Self { view, listing: Listing::List(List::from_arg_matches(matches)?) },
            None => Self { view, listing: Listing::from_arg_matches(matches)? },
        })
    }

    fn update_from_arg_matches(&mut self, matches: &ArgMatches) -> Result<(), clap::Error> {
        *self = Self::from_arg_matches(matches)?;
        Ok(())
    }
}

/// `list`
#[derive(Clone, Debug, Args)]
pub struct List {
    /// The maximum number of rows.
    #[arg(long, value_name = "N", default_value_t = 50, value_parser = at_least_one::<u32>)]
    pub limit: u32,
    /// Only rows with this value.
    #[arg(long = "where", value_name = "FIELD=VALUE", value_parser = filter)]
    pub filters: Vec<(String, String)>,
    /// Only rows of this source.
    #[arg(long, value_name = "NAME")]
    pub source: Option<String>,
    /// Show personal data, which the audit then has.
    #[arg(long)]
    pub reveal: bool,
    /// How it is asked and printed.
    #[command(flatten)]
    pub output: Output,
}

/// `malote overview`
#[derive(Clone, Debug, Args)]
pub struct Overview {
    /// How far back it looks.
    #[arg(long, default_value = "hour", value_parser = ["hour", "day", "week"])]
    pub period: String,
    /// End with status 1 if something needs somebody.
    #[arg(long)]
    pub check: bool,
    /// How it is asked and printed.
    #[command(flatten)]
    pub output: Output,
}

/// `malote routes`
#[derive(Clone, Debug, Args)]
pub struct Routes {
    /// Only the topics of this provider.
    #[arg(long, value_name = "NAME")]
    pub provider: Option<String>,
    /// What takes this topic.
    #[arg(long, value_name = "TOPIC")]
    pub topic: Option<String>,
    /// How it is asked and printed.
    #[command(flatten)]
    pub output: Output,
}

/// `malote events`
#[derive(Debug, Subcommand)]
pub enum Events {
    /// The newest first.
    List(EventList),
    /// One event: its envelope, its receipt, its body and its outcome.
    Show(ReceivedShow),
    /// Send recorded events again. A consumer that has handled an event does not handle it twice.
    Replay(Replay),
    /// Events as they are recorded, until interrupted: like `malote feed --after now --follow`.
    Tail(Tail),
}

/// `malote events replay`
#[derive(Clone, Debug, Args)]
pub struct Replay {
    /// Which events.
    #[command(flatten)]
    pub events: EventChoice,
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
    /// The reason, which is recorded.
    #[arg(long, value_name = "TEXT")]
    pub reason: String,
    /// How it is done.
    #[command(flatten)]
    pub job: JobArgs,
}

/// `malote unrouted`
#[derive(Debug, Subcommand)]
pub enum Unrouted {
    /// The newest first.
    List(List),
    /// Send unrouted events again, now that a queue is bound to their topic.
    Retry(Retry),
    /// Close unrouted events without retrying; the reason is recorded.
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
    /// Stop a job until it is resumed, also across restarts.
    Pause(JobRef),
    /// Let a paused job go on where it was.
    Resume(JobRef),
    /// Cancel a job; messages already sent still arrive.
    Cancel(JobRef),
}

/// `malote jobs list`
#[derive(Clone, Debug, Args)]
pub struct JobList {
    /// Which jobs.
    #[command(flatten)]
    pub filter: Options<JobFilter>,
    /// The rest.
    #[command(flatten)]
    pub rows: Rows,
}

/// A job.
#[derive(Clone, Debug, Args)]
pub struct JobRef {
    /// The id of the job.
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
    /// The maximum number of differences to show.
    #[arg(long, value_name = "N", default_value_t = 50, value_parser = at_least_one::<u32>)]
    pub limit: u32,
    /// How it is asked and printed.
    #[command(flatten)]
    pub output: Output,
}

/// `malote doctor`
#[derive(Clone, Debug, Args)]
pub struct Doctor {
    /// The operations address of a process to check; can be repeated [default: the configured addresses].
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

/// `malote events list`
#[derive(Clone, Debug, Args)]
pub struct EventList {
    /// Which events.
    #[command(flatten)]
    pub filter: Options<EventFilter>,
    /// The rest.
    #[command(flatten)]
    pub list: List,
}

/// `malote rejected`
#[derive(Debug, Subcommand)]
pub enum Rejected {
    /// The newest first.
    List(List),
    /// One rejected body, its cause and its receipt.
    Show(ReceivedShow),
    /// Read rejected bodies again, now that the contract or the configuration is fixed.
    Retry(Retry),
    /// Close rejected bodies without retrying; the reason is recorded.
    Discard(Discard),
}

/// `show`
#[derive(Clone, Debug, Args)]
pub struct Show {
    /// The id, as the list shows it.
    pub id: String,
    /// How it is asked and printed.
    #[command(flatten)]
    pub output: Output,
}

/// `show` of what has a body.
#[derive(Clone, Debug, Args)]
pub struct RevealingShow {
    /// Show personal data in the body, which the audit then has.
    #[arg(long)]
    pub reveal: bool,
    /// The rest.
    #[command(flatten)]
    pub show: Show,
}

/// `show` of what was posted.
#[derive(Clone, Debug, Args)]
pub struct ReceivedShow {
    /// Only the receipt, which can be sent to the provider: when the request came, where from, and what was answered.
    #[arg(long, conflicts_with = "reveal")]
    pub receipt: bool,
    /// Show personal data in the body, which the audit then has.
    #[arg(long)]
    pub reveal: bool,
    /// The rest.
    #[command(flatten)]
    pub show: Show,
}

/// `malote topology`
#[derive(Debug, Subcommand)]
pub enum Topology {
    /// Show what is declared.
    Show {
        /// In which form.
        #[arg(long, value_enum, default_value_t = TopologyFormat::Table)]
        format: TopologyFormat,
    },
    /// Declare the topology on the configured broker, and migrate what an earlier release declared.
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
    /// Report every mistake in the file and the environment.
    Check,
    /// Print the settings in force, without secrets.
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
            "documents",
            "documents list",
            "documents show 0199d3c0-1f2e-7abc-8def-0123456789ab",
            "documents fetch --source me --from 2026-11-22 --to 2026-11-23 --yes",
            "documents open 0199d3c0-1f2e-7abc-8def-0123456789ab --version 1",
            "ingress",
            "ledger",
            "console --listen 127.0.0.1:0",
            "consume invoices",
            "consume receivables",
            "consume prescriptions --listen 127.0.0.1:0",
            "simulate --source me --rate 10 --count 5",
            "events list --state dead --limit 5 --json",
            "events show 0199d3c0-1f2e-7abc-8def-0123456789ab",
            "events tail --source me --topics mercado-eletronico:order.* --json",
            "events show 0199d3c0 --receipt --utc",
            "dead list --consumer invoices",
            "rejected list",
            "unrouted list",
            "events replay --source me --state dead --from 2026-11-22 --to 2026-11-23 --to-consumer invoices --rate 100",
            "events replay --topic renewed --all --again --dry-run --yes",
            "dead list --group",
            "dead note 0a1b2c3d --text asked --ticket https://tickets.example/7",
            "dead note 0a1b2c3d --remove",
            "dead show 0199d3c0-1f2e-7abc-8def-0123456789ab",
            "dead retry --group 0a1b2c3d --yes",
            "dead discard --consumer invoices --reason known",
            "rejected retry --everything",
            "rejected discard 0199d3c0-1f2e-7abc-8def-0123456789ab --reason spam",
            "unrouted retry --where topic=renewed",
            "subscriptions add billing --pull --topics malote:receivable.*,recuperador:# --json",
            "subscriptions add crm --push https://crm --topics malote:# --order subject --secret whsec_x --header x:y",
            "subscriptions --listen 127.0.0.1:0",
            "subscriptions list --json",
            "attempts list --subscription crm --json",
            "attempts show 0199d3c0-1f2e-7abc-8def-0123456789ab",
            "attempts retry --subscription crm --from 2026-11-22 --to 2026-11-23 --again --yes",
            "attempts report --subscription crm --from 2026-11-22",
            "undelivered list --subscription crm",
            "subscriptions edit billing --topics malote:# --no-filter",
            "subscriptions pause billing --reason upgrade",
            "subscriptions resume billing --since 2h",
            "subscriptions seek billing --to beginning --yes",
            "subscriptions test billing --last 1000",
            "subscriptions rotate-secret billing",
            "subscriptions remove billing --yes",
            "subscriptions apply subscriptions.toml --prune --dry-run",
            "jobs list",
            "jobs list --action reconcile --state done --where what=events",
            "jobs cancel 0199d3c0-1f2e-7abc-8def-0123456789ab",
            "reconcile --day yesterday --json",
            "overview --period week --check",
            "routes --provider gestao-online --topic ORDER_CREATED",
            "queues --ingress http://127.0.0.1:1 --ingress http://127.0.0.1:2",
            "invoices list",
            "receivables list --where state=open",
            "agreements list --api http://127.0.0.1:1 --token x",
            "prescriptions list",
            "prescriptions files --where document=52998224725",
            "purchasing list --where kind=order",
            "queues",
            "topology show --format definitions",
            "topology apply --config malote.toml",
            "sources add stripe --name loja --url https://hooks.example.com --language pt",
            "sources show me --json",
            "sources presets --json",
            "schemas --json",
            "config check",
            "config show --default",
            "doctor",
            "completions zsh",
            "manual man1",
        ] {
            let words = std::iter::once("malote").chain(line.split(' '));
            if let Err(error) = Cli::try_parse_from(words) {
                panic!("{line}: {error}");
            }
        }
        for line in ["consume ledgers", "dead note 0a1b2c3d", "dead note 0a1b2c3d --remove --text asked"] {
            assert!(Cli::try_parse_from(std::iter::once("malote").chain(line.split(' '))).is_err(), "{line}");
        }
    }
}
