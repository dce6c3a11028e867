//! Runs the benchmarks (`tests/bench`) with the binary that they measure.

use std::path::Path;

use anyhow::Result;

use crate::report::Report;
use crate::workspace::{Workspace, run};

/// The packages beside the servers': valgrind counts instructions.
pub const VALGRIND: (&str, &str) = ("valgrind", "valgrind");

/// What the pages of the console are looked at with.
pub const BROWSER: [(&str, &str); 2] = [("chromium", "chromium"), ("chromedriver", "chromium-driver")];

/// Builds everything as it is published, malote and what it is compared with, and measures.
pub fn run_published(
    workspace: &Workspace,
    report: &mut Report,
    quick: bool,
    rounds: usize,
    scenarios: &[String],
) {
    let ready = report.step("install", || harness::ensure_installed(&[&[VALGRIND], &BROWSER[..]].concat()))
        && report.step("build", || {
            run(&mut workspace.cargo("build", &["--profile", "dist", "--package", "cli"]))?;
            run(&mut workspace.cargo("build", &["--profile", "dist", "--package", "tests", "--bin", "bench"]))
        });
    if ready {
        let folder = workspace.target().join("dist");
        report.step("bench", || {
            let rounds = format!("--rounds={rounds}");
            let mut arguments = vec![rounds.as_str()];
            arguments.extend(quick.then_some("--quick"));
            arguments.extend(scenarios.iter().map(String::as_str));
            bench(workspace, &folder, &arguments)
        });
    }
}

/// Every scenario with few events, as a debug build: shows that the benchmarks work.
///
/// # Errors
/// One does not.
pub fn quick_debug(workspace: &Workspace) -> Result<()> {
    run(&mut workspace.cargo("build", &["--package", "tests", "--bin", "bench"]))?;
    bench(workspace, &workspace.target().join("debug"), &["--quick"])
}

fn bench(workspace: &Workspace, folder: &Path, arguments: &[&str]) -> Result<()> {
    let mut command = std::process::Command::new(folder.join("bench"));
    command.args(arguments).current_dir(workspace.root()).env(harness::BIN, folder.join("malote"));
    run(&mut command)
}
