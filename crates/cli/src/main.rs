//! `malote`: the one binary. Reads the command line and the configuration, and runs a role or a command.
//!
//! The only crate that reads files of settings and the environment, wires roles, and is a client of the
//! administration API.

mod args;
mod client;
mod commands;
mod config;
mod data_dir;
mod installation;
mod local;
mod management;
mod parser;
mod registry;
mod report;
mod roles;
mod sender_texts;
mod table;
#[cfg(test)]
mod tests;

use std::process::ExitCode;

use anyhow::{Context, Result};
use serde_json::{Value, json};

use crate::args::sources::Sources;
use crate::args::{Book, Cli, Command, Listing};
use crate::client::{lists, queues, reconcile, simulate};
use crate::commands::{
    complete, configuration, demo, doctor, markdown, provider_page, shell, sources, topology,
};
use crate::config::Needed;
use crate::roles::Roles;

/// Also of SQLite. Batches of events are thousands of blocks that other threads free than those that allocate them, which costs
/// the system's allocator a third of the processor time.
#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

fn main() -> ExitCode {
    let cli = parser::parse();
    local::choose(cli.utc);
    // Fails only where one is installed already.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let ended = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .context("cannot start the runtime")
        .and_then(|runtime| runtime.block_on(run(cli)));
    roles::flush_log();
    ended.map_or_else(|error| report::failed(&error), report::ended)
}

/// Prints what needs no configuration. False if that is something else.
fn has_printed(command: &Command) -> bool {
    match command {
        Command::Openapi => report::line(console::openapi(&registry::views().collect::<Vec<_>>())),
        Command::Schemas(args::Schemas { json: true, event: None }) => lists::print_json(&event_types()),
        Command::Schemas(args::Schemas { event, .. }) => print_schemas(event.as_deref()),
        Command::ProviderPages(pages) => provider_page::print(pages),
        Command::HelpMarkdown => report::print(&markdown::reference()),
        Command::Completions { shell } => report::print(&shell::completions(*shell)),
        Command::Config(args::Config::Show { default: true }) => report::print(config::DEFAULT),
        _ => return false,
    }
    true
}

/// Runs what finds its configuration by itself; `None` if that is something else.
async fn run_by_itself(cli: &Cli) -> Option<Result<ExitCode>> {
    Some(match &cli.command {
        Command::Demo(args) => demo::run(args).await,
        Command::Complete { words } => {
            complete::run(words, cli.config.clone()).await;
            Ok(ExitCode::SUCCESS)
        }
        Command::Manual { folder } => shell::manual(folder).map(|()| ExitCode::SUCCESS),
        _ => return None,
    })
}

async fn run(cli: Cli) -> Result<ExitCode> {
    if has_printed(&cli.command) {
        return Ok(ExitCode::SUCCESS);
    }
    if let Some(ended) = run_by_itself(&cli).await {
        return ended;
    }
    let loaded = config::load(cli.config.as_deref(), needed(&cli.command))?;
    let config = &mut loaded.config.clone();
    match cli.command {
        Command::Up => roles::run(config, &loaded, Roles::all(), None).await?,
        Command::Ingress(args) => {
            roles::run(config, &loaded, Roles { ingress: true, ..Roles::default() }, args.listen).await?
        }
        Command::Ledger(args) => {
            roles::run(config, &loaded, Roles { ledger: true, ..Roles::default() }, args.listen).await?
        }
        Command::Console(args) => {
            roles::run(config, &loaded, Roles { console: true, ..Roles::default() }, args.listen).await?
        }
        Command::Consume(args) => {
            let domain =
                registry::named(&args.consumer).context("the command line takes known consumers only")?;
            let roles = Roles { domains: std::slice::from_ref(domain), ..Roles::default() };
            roles::run(config, &loaded, roles, args.role.listen).await?;
        }
        Command::Simulate(args) => return simulate::run(args, config).await,
        Command::Events(events) => return client::events(events, config).await,
        Command::Dead(dead) => return client::dead(dead, config).await,
        Command::Rejected(rejected) => return client::rejected(rejected, config).await,
        Command::Unrouted(unrouted) => return client::unrouted(unrouted, config).await,
        Command::Feed(args) => client::feed::run(args, config).await?,
        Command::Subscriptions(args) => match args.command {
            Some(command) => client::subscriptions::run(command, config).await?,
            None => {
                let roles = Roles { subscriptions: true, ..Roles::default() };
                roles::run(config, &loaded, roles, args.role.listen).await?
            }
        },
        Command::Documents(args) => match args.command {
            Some(command) => return client::documents::run(command, config).await,
            None => {
                let roles = Roles { documents: true, ..Roles::default() };
                roles::run(config, &loaded, roles, args.role.listen).await?
            }
        },
        Command::Attempts(command) => client::attempts::run(command, config).await?,
        Command::Undelivered(command) => client::attempts::undelivered(command, config).await?,
        Command::Tokens(command) => client::access::tokens(command, config).await?,
        Command::Users(command) => client::access::users(command, config).await?,
        Command::Audit(command) => client::access::audit(command, config).await?,
        Command::Jobs(jobs) => return client::jobs(jobs, config).await,
        Command::Reconcile(args) => return reconcile::run(args, config).await,
        Command::Book(Book { view, listing: Listing::List(list) }) => {
            lists::list(view, list, config).await.map(drop)?
        }
        Command::Sources(Sources::Add(args)) => sources::add(&args, config)?,
        Command::Sources(Sources::Presets { json }) => sources::list(json),
        Command::Sources(command) => client::sources::run(command, config).await?,
        Command::Queues(args) => return queues::run(args, config).await,
        Command::Overview(args) => return client::overview::run(args, config).await,
        Command::Routes(args) => client::routes::run(args, config).await?,
        Command::Topology(args::Topology::Show { format }) => topology::show(format, config).await,
        Command::Topology(args::Topology::Apply) => topology::apply(config).await?,
        Command::Config(_) if matches!(cli.command, Command::Config(args::Config::Check)) => {
            configuration::check(&loaded)
        }
        Command::Config(_) => report::print(&config::shown(&loaded.tree)),
        Command::Doctor(args) => return doctor::run(args, config).await,
        Command::Demo(_)
        | Command::Openapi
        | Command::Schemas(_)
        | Command::ProviderPages(_)
        | Command::HelpMarkdown
        | Command::Completions { .. }
        | Command::Complete { .. }
        | Command::Manual { .. } => {}
    }
    Ok(ExitCode::SUCCESS)
}

/// The types of domain events, with what each means.
fn event_types() -> Vec<Value> {
    registry::events().map(|event| json!({ "type": event.name, "meaning": event.meaning })).collect()
}

/// The names of the types of domain events, or the schema of one.
fn print_schemas(name: Option<&str>) {
    for event in registry::events() {
        match name {
            None => report::line(event.name),
            Some(name) if name == event.name => report::line(format!("{:#}", event.schema())),
            Some(_) => {}
        }
    }
}

/// The secrets that a command requires.
fn needed(command: &Command) -> Needed {
    let none = Needed::NONE;
    match command {
        Command::Up | Command::Config(_) => Needed::ALL,
        Command::Ingress(_) => Needed { broker: true, subject_key: true, sources: true, ..none },
        Command::Ledger(_) | Command::Consume(_) => Needed { broker: true, store: true, ..none },
        Command::Subscriptions(args) if args.command.is_none() => {
            Needed { broker: true, store: true, outbound: true, ..none }
        }
        Command::Documents(args) if args.command.is_none() => {
            Needed { broker: true, store: true, outbound: true, apis: true, ..none }
        }
        Command::Console(_) => Needed { sources: false, apis: false, ..Needed::ALL },
        Command::Simulate(_) => Needed { sources: true, ..none },
        Command::Topology(_) => Needed { broker: true, ..none },
        Command::Queues(_) => Needed { broker: true, token: true, ..none },
        Command::Doctor(_) => Needed { broker: true, store: true, token: true, ..none },
        // They use the administration API.
        _ => Needed { token: true, ..none },
    }
}
