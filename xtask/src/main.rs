//! The build tool: `cargo xtask <command>` does what a contributor or the continuous integration does more than once.
//!
//! Promises that everything runs on a fresh Debian machine with nothing but a Rust toolchain. It knows the layout of
//! the repository and how cargo is called, and nothing of what malote does.

use std::process::ExitCode;

use clap::Parser;
use harness::Release;

mod bench;
mod compose;
mod docs;
mod reliability;
mod report;
mod test;
mod tidy;
mod workspace;

use report::Report;
use workspace::Workspace;

/// Build tool of malote.
#[derive(Parser)]
#[command(bin_name = "cargo xtask", about, max_term_width = 100)]
enum Command {
    /// Checks what the compiler does not: who names whom, dependency fences, file headers, the architecture file
    Tidy,
    /// Runs every check and every test, with private RabbitMQ and PostgreSQL servers
    Test {
        /// Runs the fault suite alone and in full, 10,000 events in each row, and writes its table into
        /// docs/reliability.md
        #[arg(long, conflicts_with_all = ["filters", "arguments"])]
        faults: bool,
        /// Runs the laws, the end-to-end tests and the fault suite, and none of the other checks, on the servers of
        /// another Debian release: unpacked by debootstrap into target/servers (as root), and kept there
        #[arg(long, value_enum, value_name = "RELEASE")]
        servers: Option<Servers>,
        /// Runs only the tests whose names contain one of these, and none of the other checks. What follows `--`
        /// goes to the test programs (`cargo xtask test routes -- --nocapture`)
        #[arg(value_name = "FILTER")]
        filters: Vec<String>,
        /// Arguments of the test programs
        #[arg(last = true, value_name = "ARGUMENT")]
        arguments: Vec<String>,
    },
    /// Writes the references that are generated from the code
    Docs {
        /// Writes nothing, and fails when a file differs from what would be written
        #[arg(long)]
        check: bool,
        /// Takes the pictures of docs/console.md instead, with Chromium
        #[arg(long, conflicts_with = "check")]
        screens: bool,
    },
    /// Measures malote side by side with its limits, built as it is published, and writes docs/benchmarks.md
    Bench {
        /// Few events and one round: shows that the benchmarks work, and writes nothing
        #[arg(long)]
        quick: bool,
        /// How often everything is measured
        #[arg(long, default_value_t = 3)]
        rounds: usize,
        /// The scenarios to run, by name; all of them when none is given. An unknown name lists them
        #[arg(value_name = "SCENARIO")]
        scenarios: Vec<String>,
    },
    /// What the continuous integration runs: the same as `test` without a filter
    Ci,
}

/// Whose servers the tests run on, other than the machine's own.
#[derive(Clone, Copy, clap::ValueEnum)]
enum Servers {
    /// Debian 13: RabbitMQ 4.0 and PostgreSQL 17
    Trixie,
    /// Debian unstable: the newest RabbitMQ and PostgreSQL
    Sid,
}

impl From<Servers> for Release {
    fn from(servers: Servers) -> Self {
        match servers {
            Servers::Trixie => Self::Trixie,
            Servers::Sid => Self::Sid,
        }
    }
}

fn main() -> ExitCode {
    match run(Command::parse()) {
        Ok(report) => report.finish(),
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(command: Command) -> anyhow::Result<Report> {
    let workspace = Workspace::load()?;
    let mut report = Report::default();
    match command {
        Command::Tidy => {
            report.step("tidy", || tidy::check(&workspace));
        }
        Command::Test { faults: true, servers, .. } => {
            test::faults(&workspace, &mut report, servers.map(Release::from));
        }
        Command::Test { servers: Some(servers), filters, arguments, .. } => {
            test::on(&workspace, &mut report, servers.into(), &[filters, arguments].concat());
        }
        Command::Test { filters, arguments, .. } if !(filters.is_empty() && arguments.is_empty()) => {
            test::some(&workspace, &mut report, &[filters, arguments].concat());
        }
        Command::Test { .. } | Command::Ci => test::all(&workspace, &mut report),
        Command::Bench { quick, rounds, scenarios } => {
            bench::run_published(&workspace, &mut report, quick, rounds, &scenarios);
        }
        Command::Docs { screens: true, .. } => test::screens(&workspace, &mut report),
        Command::Docs { check, .. } => {
            if report.step("build", || workspace.build()) {
                report.step("references", || docs::generate(&workspace, check));
            }
        }
    }
    Ok(report)
}
