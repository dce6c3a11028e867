//! Everything that has to hold, in one command.
//!
//! Promises that every step that can run does run, so that one command shows every failure, and that the servers it
//! starts end with it: by its own hand, or by the harness's guard when it is interrupted or killed. What `cargo test`
//! prints passes through untouched; what it prints of tests that failed is shown again at the end.

use anyhow::{Result, anyhow};
use harness::{DEBOOTSTRAP, Release, Root, Servers, Versions};

use crate::report::Report;
use crate::workspace::{Workspace, run, run_tests};
use crate::{bench, docs, reliability, tidy};

/// The tests that run on the servers of every release, besides those of this machine: those whose names contain one of
/// these. The other black-box tests take long and hardly depend on the servers.
const ON_EVERY_RELEASE: [&str; 4] = ["laws", "faults", "subscriptions", "floods_in_front_of_rabbitmq"];

/// What runs the consumers in Python and Node: programs and their packages.
const CONSUMERS: [(&str, &str); 3] = [("pip3", "python3-pip"), ("node", "nodejs"), ("npm", "npm")];

/// Every check and every test.
pub fn all(workspace: &Workspace, report: &mut Report) {
    report.step("disk", || workspace.ensure_disk_space());
    let installed = report.step("install", || {
        harness::ensure_installed(
            &[&CONSUMERS[..], &bench::BROWSER, &[bench::VALGRIND, DEBOOTSTRAP]].concat(),
        )
    });
    report.step("format", || run(&mut workspace.cargo("fmt", &["--all", "--check"])));
    report.step("tidy", || tidy::check(workspace));
    report.step("lint", || {
        run(&mut workspace.cargo("clippy", &["--workspace", "--all-targets", "--", "-D", "warnings"]))
    });
    if !build(workspace, report) {
        report.skip("references", "the binary does not build");
        report.skip("tests", "the binary does not build");
        report.skip("bench --quick", "the binary does not build");
        return;
    }
    report.step("references", || docs::generate(workspace, true));
    if !installed {
        report.skip("tests", "the servers are not installed");
        report.skip("bench --quick", "the servers are not installed");
        return;
    }
    tests(workspace, report, &Root::MACHINE, &["--workspace"], &[]);
    for release in Release::ALL {
        if let Some(root) = unpack(workspace, report, release) {
            let filters = ON_EVERY_RELEASE.map(str::to_owned);
            tests(workspace, report, &root, &SERVER_TESTS, &filters);
        }
    }
    report.step("bench --quick", || bench::quick_debug(workspace));
}

/// The tests that `arguments` (filters, then options of the test programs) select, without the other checks.
pub fn some(workspace: &Workspace, report: &mut Report, arguments: &[String]) {
    let programs = [&CONSUMERS[..], &bench::BROWSER].concat();
    let ready = report.step("install", || harness::ensure_installed(&programs)) && build(workspace, report);
    if ready {
        tests(workspace, report, &Root::MACHINE, &["--workspace"], arguments);
    }
}

/// Takes the pictures of docs/console.md: the test of the console's pages writes them.
pub fn screens(workspace: &Workspace, report: &mut Report) {
    let programs = [&CONSUMERS[..], &bench::BROWSER].concat();
    if report.step("install", || harness::ensure_installed(&programs))
        && report.step("build", || workspace.build())
    {
        report.step("screens", || {
            let arguments = ["--package", "tests", "--test", "suite", "--", "browser::every_screen"];
            let mut command = workspace.cargo("test", &arguments);
            command.env(harness::BIN, workspace.binary());
            command.env("MALOTE_TEST_SCREENS", workspace.root().join("docs/console"));
            run(&mut command)
        });
    }
}

/// The packages whose tests run against real servers.
const SERVER_TESTS: [&str; 4] = ["--package", "tests", "--package", "harness"];

/// Every test that runs against servers, or those that `arguments` select, on the servers of a release.
pub fn on(workspace: &Workspace, report: &mut Report, release: Release, arguments: &[String]) {
    let ready =
        report.step("install", || harness::ensure_installed(&[DEBOOTSTRAP])) && build(workspace, report);
    if ready && let Some(root) = unpack(workspace, report, release) {
        tests(workspace, report, &root, &SERVER_TESTS, arguments);
    }
}

/// The fault suite in full; its tables become the section of these servers in docs/reliability.md. Everything is optimised:
/// the goals of time are those of operation.
pub fn faults(workspace: &Workspace, report: &mut Report, release: Option<Release>) {
    let ready = report.step("install", || harness::ensure_installed(&[DEBOOTSTRAP]))
        && report.step("build", || run(&mut workspace.cargo("build", &["--release", "--package", "cli"])));
    if !ready {
        return;
    }
    let root = match release {
        None => Some(Root::MACHINE),
        Some(release) => unpack(workspace, report, release),
    };
    let Some(root) = root else { return };
    report.step("faults", || {
        let versions = announced(&root)?;
        let tables = workspace.target().join("faults");
        std::fs::create_dir_all(&tables)?;
        let mut command =
            workspace.cargo("test", &["--release", "--package", "tests", "--", "faults", "floods"]);
        command.args(["--nocapture", "--test-threads=1"]);
        command.env(harness::BIN, workspace.target().join("release/malote")).envs(root.environment());
        command.env("MALOTE_TEST_FAULTS", &tables);
        run(&mut command)?;
        reliability::write(&workspace.root().join("docs/reliability.md"), &versions, &tables)
    });
}

/// Builds the version before this one, for the tests of an upgrade, and this one.
fn build(workspace: &Workspace, report: &mut Report) -> bool {
    report.step_with("build the previous version", || workspace.build_previous()).is_some()
        && report.step("build", || workspace.build())
}

/// The servers of a release, unpacked. A release that is not available fails this step, and no test.
fn unpack(workspace: &Workspace, report: &mut Report, release: Release) -> Option<Root> {
    let folder = workspace.target().join("servers");
    report.step_with(format!("unpack the servers of Debian {release}"), || release.unpack(&folder))
}

/// The versions in a root, shown.
fn announced(root: &Root) -> Result<Versions> {
    let versions = harness::versions(root)?;
    eprintln!("    {versions}");
    Ok(versions)
}

fn tests(workspace: &Workspace, report: &mut Report, root: &Root, packages: &[&str], arguments: &[String]) {
    let Some((servers, versions)) =
        report.step_with("servers", || Ok((Servers::start_in(root)?, announced(root)?)))
    else {
        report.skip("tests", "the servers do not start");
        return;
    };
    report.step(format!("tests on {versions}"), || {
        let mut command = workspace.cargo("test", &[&["--no-fail-fast"], packages].concat());
        command.envs(servers.environment()).envs(root.environment());
        command.env(harness::BIN, workspace.binary()).env(harness::PREVIOUS, workspace.build_previous()?);
        if !arguments.is_empty() {
            command.arg("--").args(arguments);
        }
        run_tests(&mut command).map_err(|error| {
            let trouble = servers.trouble();
            if trouble.is_empty() { error } else { anyhow!("{error}\nThe servers broke down:\n{trouble}") }
        })
    });
    // Shown as a step because it takes a moment, and so that the summary comes after everything has ended.
    report.step("stop servers", || {
        drop(servers);
        Ok(())
    });
}
