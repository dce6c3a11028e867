//! Rules that the compiler does not check, each of them data or a few lines.
//!
//! Promises that every finding of every rule is reported at once, with its file. A rule that is not checked here
//! decays, so a new convention of the code base starts as a check. The checks are functions of plain values; only
//! [`check`] reads the disk.

use std::fmt;
use std::fs;
use std::path::Path;

use anyhow::{Context, Result, bail};

use crate::workspace::Workspace;

mod architecture;
mod circles;
mod code;
mod commands;
mod decisions;
pub mod dependencies;
mod deploy;
mod error_types;
mod functions;
mod licence;
mod manifests;
mod names;
mod phrases;
mod scaffolding;
mod sources;
mod supply;
mod unused;

/// One place where a rule does not hold.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Finding {
    /// Relative to the root; with `:<line>` where a line is to blame.
    place: String,
    /// The rule's name, as CONTRIBUTING.md lists it.
    rule: &'static str,
    detail: String,
}

impl Finding {
    fn new(place: impl Into<String>, rule: &'static str, detail: impl Into<String>) -> Self {
        Self { place: place.into(), rule, detail: detail.into() }
    }
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: [{}] {}", self.place, self.rule, self.detail)
    }
}

/// A text file of the repository.
pub struct File {
    /// Relative to the root, parted by `/`.
    path: String,
    text: String,
}

/// Runs every check.
///
/// # Errors
/// There are findings (all of them printed), or a file cannot be read.
pub fn check(workspace: &Workspace) -> Result<()> {
    let root = workspace.root();
    let mut files = Vec::new();
    for folder in ["crates", "tests", "xtask"] {
        read_files(root, &root.join(folder), &is_code, &mut files)?;
    }
    files.sort_by(|a, b| a.path.cmp(&b.path));
    let (manifests, sources): (Vec<_>, Vec<_>) =
        files.into_iter().partition(|file| file.path.ends_with(".toml"));
    let packages = dependencies::packages(&workspace.metadata);

    let mut findings = dependencies::check(&packages);
    findings.extend(manifests::check(&manifests));
    findings.extend(sources::check(&sources));
    findings.extend(circles::check(&sources));
    findings.extend(functions::check(&sources));
    findings.extend(names::check(&sources));
    findings.extend(scaffolding::check(&sources, &workspace.binary_features()?));
    findings.extend(error_types::check(&sources));
    let read = |path: &str| fs::read_to_string(root.join(path)).with_context(|| format!("reading {path}"));
    findings.extend(deploy::check(&read(deploy::COMPOSE)?, &read(deploy::CONTAINERFILE)?));
    let shared = unused::shared(&read("Cargo.toml")?).context("reading Cargo.toml")?;
    findings.extend(unused::check(&unused::packages(&workspace.metadata), &sources, &shared));
    let members: Vec<_> = packages.iter().map(|package| package.name.as_str()).collect();
    findings.extend(supply::check(&read(supply::DENY)?, &read(supply::LOCK)?, &workspace.tree()?, &members)?);
    let commands =
        commands::FILES.iter().map(|path| Ok(File { path: (*path).to_owned(), text: read(path)? }));
    findings.extend(commands::check(&commands.collect::<Result<Vec<_>>>()?));
    let mut records = Vec::new();
    read_files(root, &root.join(decisions::FOLDER), &|name| name.ends_with(".md"), &mut records)?;
    records.sort_by(|a, b| a.path.cmp(&b.path));
    findings.extend(decisions::check(&records));
    findings.extend(phrases::check(&texts(root)?));
    let crates: Vec<_> =
        packages.iter().map(|package| (package.name.as_str(), package.folder.as_str())).collect();
    match fs::read_to_string(root.join("ARCHITECTURE.md")) {
        Ok(text) => {
            findings.extend(architecture::check(&text, &crates, &sources, &|path| root.join(path).exists()))
        }
        Err(_) => {
            findings.push(Finding::new("ARCHITECTURE.md", architecture::RULE, "the file does not exist"))
        }
    }

    findings.sort();
    for finding in &findings {
        eprintln!("    {finding}");
    }
    if !findings.is_empty() {
        bail!("findings: {}", findings.len());
    }
    Ok(())
}

/// All text that people read: code, documents and the commented configuration.
fn texts(root: &Path) -> Result<Vec<File>> {
    let is_text = |name: &str| [".rs", ".md", ".toml"].iter().any(|ending| name.ends_with(ending));
    let mut texts = Vec::new();
    for folder in ["crates", "deploy", "docs", "fuzz", "tests", "xtask"] {
        read_files(root, &root.join(folder), &is_text, &mut texts)?;
    }
    let documents = ["ARCHITECTURE.md", "CHANGELOG.md", "CONTRIBUTING.md", "README.md", "SECURITY.md"];
    for path in documents.into_iter().chain([deploy::COMPOSE, supply::DENY]) {
        let text = fs::read_to_string(root.join(path)).with_context(|| format!("reading {path}"))?;
        texts.push(File { path: path.to_owned(), text });
    }
    Ok(texts)
}

/// Whether a Rust file holds tests only.
fn is_test(path: &str) -> bool {
    path.starts_with("tests/") || path.ends_with("/tests.rs") || path.contains("/tests/")
}

/// Rust sources and cargo manifests.
fn is_code(name: &str) -> bool {
    name.ends_with(".rs") || name == "Cargo.toml"
}

/// The files below a folder whose names are wanted.
fn read_files(
    root: &Path,
    folder: &Path,
    wanted: &dyn Fn(&str) -> bool,
    files: &mut Vec<File>,
) -> Result<()> {
    for entry in fs::read_dir(folder).with_context(|| format!("reading {}", folder.display()))? {
        let path = entry.context("reading a folder")?.path();
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        if path.is_dir() {
            // A target folder inside a crate is cargo's, and a hidden folder is somebody's tool's.
            if name != "target" && !name.starts_with('.') {
                read_files(root, &path, wanted, files)?;
            }
        } else if wanted(&name) {
            let text = fs::read_to_string(&path).with_context(|| format!("reading {}", path.display()))?;
            let path = path.strip_prefix(root).expect("below the root").to_string_lossy().into_owned();
            files.push(File { path, text });
        }
    }
    Ok(())
}

#[cfg(test)]
fn file(path: &str, text: &str) -> File {
    File { path: path.to_owned(), text: text.to_owned() }
}
