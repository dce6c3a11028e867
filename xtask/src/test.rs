//! Everything that has to hold, in one command.
//!
//! Promises that every step that can run does run, so that one command shows every failure, and that the servers it
//! starts end with it: by its own hand, or by the harness's guard when it is interrupted or killed. What `cargo test`
//! prints passes through untouched.

use harness::Servers;

use crate::report::Report;
use crate::workspace::{Workspace, run};
use crate::{bench, docs, tidy};

/// Every check and every test.
pub fn all(workspace: &Workspace, report: &mut Report) {
    let installed = report.step("install", || harness::ensure_installed(&[bench::VALGRIND]));
    report.step("format", || run(&mut workspace.cargo(&["fmt", "--all", "--check"])));
    report.step("tidy", || tidy::check(workspace));
    report.step("lint", || {
        run(&mut workspace.cargo(&["clippy", "--workspace", "--all-targets", "--", "-D", "warnings"]))
    });
    if !report.step("build", || workspace.build()) {
        report.skip("references", "the binary does not build");
        report.skip("tests", "the binary does not build");
        report.skip("bench --quick", "the binary does not build");
        return;
    }
    report.step("references", || docs::generate(workspace, true));
    if installed {
        tests(workspace, report, &[]);
        report.step("bench --quick", || bench::quick_debug(workspace));
    } else {
        report.skip("tests", "the servers are not installed");
        report.skip("bench --quick", "the servers are not installed");
    }
}

/// The tests that `arguments` (filters, then options of the test programs) select, without the other checks.
pub fn some(workspace: &Workspace, report: &mut Report, arguments: &[String]) {
    let ready = report.step("install", || harness::ensure_installed(&[]))
        && report.step("build", || workspace.build());
    if ready {
        tests(workspace, report, arguments);
    }
}

/// The fault suite in full; its table becomes docs/reliability.md.
pub fn faults(workspace: &Workspace, report: &mut Report) {
    let ready = report.step("install", || harness::ensure_installed(&[]))
        && report.step("build", || workspace.build());
    if !ready {
        return;
    }
    report.step("faults", || {
        let table = workspace.target().join("faults.md");
        let mut command = workspace.cargo(&[
            "test",
            "--package",
            "tests",
            "--",
            "faults",
            "--nocapture",
            "--test-threads=1",
        ]);
        command.env(harness::BIN, workspace.binary());
        command.env("MALOTE_TEST_FAULTS", "full").env("MALOTE_TEST_FAULTS_TABLE", &table);
        run(&mut command)?;
        let text = format!("{RELIABILITY}\n{}", std::fs::read_to_string(&table)?);
        Ok(std::fs::write(workspace.root().join("docs/reliability.md"), text)?)
    });
}

/// What stands above the table.
const RELIABILITY: &str = include_str!("reliability.md");

fn tests(workspace: &Workspace, report: &mut Report, arguments: &[String]) {
    let Some(servers) = report.step_with("servers", Servers::start) else {
        report.skip("tests", "the servers do not start");
        return;
    };
    report.step("tests", || {
        let mut command = workspace.cargo(&["test", "--workspace", "--no-fail-fast"]);
        command.envs(servers.environment()).env(harness::BIN, workspace.binary());
        if !arguments.is_empty() {
            command.arg("--").args(arguments);
        }
        run(&mut command)
    });
    // Shown as a step because it takes a moment, and so that the summary comes after everything has ended.
    report.step("stop servers", || {
        drop(servers);
        Ok(())
    });
}
