//! How large the binary is, and how long it takes to build.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Instant;

use anyhow::{Context, Result, ensure};

use super::Bench;
use crate::report::{Section, Table, grouped};

/// The eighth scenario. Builds into a folder of its own, which it removes.
pub async fn run(bench: Bench<'_>) -> Result<Section> {
    let root = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("..");
    let target = tempfile::Builder::new().prefix("malote-build-").tempdir()?;
    let mut table = Table::new(&["what", "result"]);
    let (profile, folder) = if bench.quick { ("dev", "debug") } else { ("release", "release") };
    let cold = build(&root, target.path(), profile)?;
    let size = fs::metadata(target.path().join(folder).join("malote")).context("the binary")?.len();
    table.row(["the binary, stripped".to_owned(), format!("{} MB", grouped(size as f64 / 1e6, 1))]);
    let measured = fs::metadata(harness::malote_binary()?).context("the measured binary")?.len();
    table
        .row(["what is published, stripped".to_owned(), format!("{} MB", grouped(measured as f64 / 1e6, 1))]);
    table.row(["built from nothing".to_owned(), format!("{} s", grouped(cold, 0))]);
    for (what, file) in [
        ("the binary's main file", "cli/src/main.rs"),
        ("the event's crate, which all others name", "event/src/lib.rs"),
    ] {
        let file = fs::File::options().append(true).open(root.join("crates").join(file))?;
        file.set_modified(std::time::SystemTime::now())?;
        let seconds = build(&root, target.path(), profile)?;
        table.row([format!("built after a change in {what}"), format!("{} s", grouped(seconds, 0))]);
    }
    let text = "`cargo build --release`. What is published, and was measured for every other table here, has link-time \
                optimisation besides (profile `dist`), as what it is compared with has."
        .to_owned();
    Ok(Section { title: "Binary and build", text, tables: vec![table] })
}

/// Seconds of a build of the binary.
fn build(root: &Path, target: &Path, profile: &str) -> Result<f64> {
    let start = Instant::now();
    let status = Command::new(std::env::var_os("CARGO").unwrap_or("cargo".into()))
        .args(["build", "--locked", "--package", "cli", "--profile", profile, "--target-dir"])
        .arg(target)
        .current_dir(root)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status()
        .context("starting cargo")?;
    ensure!(status.success(), "cargo build --profile {profile} failed");
    Ok(start.elapsed().as_secs_f64())
}
