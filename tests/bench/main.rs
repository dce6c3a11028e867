//! `cargo xtask bench`: what malote costs on top of the broker and the database, measured side by side with their limits.
//!
//! Every scenario starts private servers, runs several rounds in alternation with its limit, and fails when an event is
//! missing. `--quick` does the same with few events and shared servers, to see that it works; its figures mean nothing.

mod limits;
mod load;
mod mix;
mod report;
mod scenarios;

use std::path::PathBuf;

use anyhow::{Context, Result, ensure};
use clap::Parser;
use harness::Servers;

use crate::limits::{empty, smallest, smallest_sqlite};
use crate::scenarios::{ALL, Bench};

/// The text around the sections.
const HEAD: &str = include_str!("head.md");
const TAIL: &str = include_str!("tried.md");

/// Measures malote side by side with its limits.
#[derive(Parser)]
#[command(bin_name = "cargo xtask bench")]
struct Arguments {
    /// Few events and one round: shows that the benchmarks work, and writes nothing
    #[arg(long)]
    quick: bool,
    /// How often everything is measured
    #[arg(long, default_value_t = 3)]
    rounds: usize,
    /// Where the tables go
    #[arg(long, default_value = "docs/benchmarks.md")]
    file: PathBuf,
    /// Which scenarios to run; all of them when none is named
    scenarios: Vec<String>,
}

fn main() -> Result<()> {
    // Two workers, unless TOKIO_WORKER_THREADS says otherwise.
    let mut runtime = tokio::runtime::Builder::new_multi_thread();
    if std::env::var_os("TOKIO_WORKER_THREADS").is_none() {
        runtime.worker_threads(2);
    }
    let runtime = runtime.enable_all().build()?;
    let arguments: Vec<_> = std::env::args().skip(1).collect();
    match arguments.split_first() {
        Some((command, [])) if command == empty::COMMAND => {
            return runtime.block_on(empty::serve()).map(|never| match never {});
        }
        Some((command, rest)) if command == smallest::COMMAND => {
            return runtime.block_on(smallest::serve(rest)).map(|never| match never {});
        }
        Some((command, rest)) if command == smallest_sqlite::COMMAND => {
            return runtime.block_on(smallest_sqlite::serve(rest)).map(|never| match never {});
        }
        _ => {}
    }
    runtime.block_on(run(Arguments::parse()))
}

async fn run(Arguments { quick, rounds, file, scenarios }: Arguments) -> Result<()> {
    let names: Vec<_> = ALL.iter().map(|scenario| scenario.name).collect();
    for name in &scenarios {
        ensure!(names.contains(&name.as_str()), "no scenario {name:?}; there are {}", names.join(", "));
    }
    let _ = rustls::crypto::ring::default_provider().install_default();
    let servers = if quick { Some(Servers::start()?) } else { None };
    let bench = Bench { quick, rounds, servers: servers.as_ref() };
    let mut sections = vec![report::machine()];
    let chosen = ALL.iter().filter(|scenario| match scenarios.is_empty() {
        true => !(quick && scenario.builds),
        false => scenarios.iter().any(|name| name == scenario.name),
    });
    for scenario in chosen {
        eprintln!("==> {}", scenario.name);
        let section = (scenario.run)(bench).await.context(scenario.name)?;
        println!("{}", section.markdown());
        sections.push(section);
        if !quick {
            report::write(&file, HEAD, TAIL, &sections)?;
        }
    }
    Ok(())
}
