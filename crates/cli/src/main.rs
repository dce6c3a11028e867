//! `malote`: the one binary. Reads the command line and the configuration, and runs a role or a command.
//!
//! The only crate that reads files of settings and the environment, wires roles, and is a client of the
//! administration API.

mod args;
mod client;
mod commands;
mod config;
mod data_dir;
mod domains;
mod installation;
mod management;
mod parser;
mod report;
mod roles;
mod table;
#[cfg(test)]
mod tests;

use std::process::ExitCode;

use anyhow::{Context, Result};

use crate::args::{Book, Cli, Command, Listing};
use crate::client::{lists, queues, reconcile, simulate};
use crate::commands::{configuration, demo, doctor, markdown, topology};
use crate::config::Needed;
use crate::roles::Roles;

fn main() -> ExitCode {
    let cli = parser::parse();
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

async fn run(cli: Cli) -> Result<ExitCode> {
    match &cli.command {
        Command::Openapi => {
            report::line(console::openapi(&domains::views().collect::<Vec<_>>()));
            return Ok(ExitCode::SUCCESS);
        }
        Command::HelpMarkdown => {
            report::print(&markdown::reference());
            return Ok(ExitCode::SUCCESS);
        }
        Command::Config(args::Config::Show { default: true }) => {
            report::print(config::DEFAULT);
            return Ok(ExitCode::SUCCESS);
        }
        Command::Demo(args) => return demo::run(args).await,
        _ => {}
    }
    let loaded = config::load(cli.config.as_deref(), needed(&cli.command))?;
    let mut config = loaded.config.clone();
    let config = &mut config;
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
                domains::named(&args.consumer).context("the command line takes known consumers only")?;
            let roles = Roles { domains: std::slice::from_ref(domain), ..Roles::default() };
            roles::run(config, &loaded, roles, args.role.listen).await?;
        }
        Command::Simulate(args) => return simulate::run(args, config).await,
        Command::Events(events) => return client::events(events, config).await,
        Command::Dead(dead) => return client::dead(dead, config).await,
        Command::Rejected(rejected) => return client::rejected(rejected, config).await,
        Command::Unrouted(unrouted) => return client::unrouted(unrouted, config).await,
        Command::Feed(args) => client::feed::run(args, config).await?,
        Command::Jobs(jobs) => return client::jobs(jobs, config).await,
        Command::Reconcile(args) => return reconcile::run(args, config).await,
        Command::Book(Book { view, listing: Listing::List(list) }) => {
            lists::list(view, list, config).await.map(drop)?
        }
        Command::Queues(args) => return queues::run(args, config).await,
        Command::Topology(args::Topology::Show { format }) => topology::show(format, config),
        Command::Topology(args::Topology::Apply) => topology::apply(config).await?,
        Command::Config(_) if matches!(cli.command, Command::Config(args::Config::Check)) => {
            configuration::check(&loaded)
        }
        Command::Config(_) => report::print(&config::shown(&loaded.tree)),
        Command::Doctor(args) => return doctor::run(args, config).await,
        Command::Demo(_) | Command::Openapi | Command::HelpMarkdown => {}
    }
    Ok(ExitCode::SUCCESS)
}

/// The secrets that a command requires.
fn needed(command: &Command) -> Needed {
    let none = Needed::NONE;
    match command {
        Command::Up | Command::Config(_) => Needed::ALL,
        Command::Ingress(_) => Needed { broker: true, subject_key: true, sources: true, ..none },
        Command::Ledger(_) | Command::Consume(_) => Needed { broker: true, store: true, ..none },
        Command::Console(_) => Needed { sources: false, ..Needed::ALL },
        Command::Simulate(_) => Needed { sources: true, ..none },
        Command::Topology(_) => Needed { broker: true, ..none },
        Command::Queues(_) => Needed { broker: true, token: true, ..none },
        Command::Doctor(_) => Needed { broker: true, store: true, token: true, ..none },
        // They use the administration API.
        _ => Needed { token: true, ..none },
    }
}
