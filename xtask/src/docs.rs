//! References generated from the code, so that they cannot disagree with it.
//!
//! Each is what one command of the `malote` binary prints. Promises the same bytes on every machine: the commands
//! run without a configuration file and without `MALOTE__` variables. Knows the commands and no content.

use std::collections::BTreeMap;
use std::env;
use std::fs;
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail};

use crate::workspace::Workspace;

/// A generated file, relative to the root, and the arguments of `malote` that print it.
struct Reference {
    file: &'static str,
    arguments: &'static [&'static str],
}

/// Every generated file.
const REFERENCES: [Reference; 5] = [
    Reference {
        file: "deploy/rabbitmq/definitions.json",
        arguments: &["topology", "show", "--format", "definitions"],
    },
    Reference { file: "docs/topics.md", arguments: &["topology", "show", "--format", "markdown"] },
    Reference { file: "docs/openapi.json", arguments: &["openapi"] },
    Reference { file: "docs/configuration.toml", arguments: &["config", "show", "--default"] },
    Reference { file: "docs/cli.md", arguments: &["help-markdown"] },
];

/// Writes every reference, or with `check` compares it with what is there.
///
/// # Errors
/// A command fails or, with `check`, a file differs; every one is named.
pub fn generate(workspace: &Workspace, check: bool) -> Result<()> {
    let mut printed = BTreeMap::new();
    let mut errors = Vec::new();
    for Reference { file, arguments } in &REFERENCES {
        match print(workspace, arguments) {
            Ok(text) => drop(printed.insert(*file, text)),
            Err(error) => errors.push(format!("{file}: {error:#}")),
        }
    }
    for (file, text) in printed {
        let path = workspace.root().join(file);
        let current = fs::read(&path).ok();
        if current.as_ref() == Some(&text) {
            continue;
        }
        if check {
            errors.push(format!("{file}: {}; run `cargo xtask docs`", difference(current.as_deref(), &text)));
            continue;
        }
        fs::create_dir_all(path.parent().expect("every file is in a folder")).context("making a folder")?;
        fs::write(&path, text).with_context(|| format!("writing {file}"))?;
        eprintln!("    wrote {file}");
    }
    if !errors.is_empty() {
        bail!("{} of {} references\n  {}", errors.len(), REFERENCES.len(), errors.join("\n  "));
    }
    Ok(())
}

/// What `malote <arguments>` prints, started where no configuration lies.
fn print(workspace: &Workspace, arguments: &[&str]) -> Result<Vec<u8>> {
    let mut command = Command::new(workspace.binary());
    command.args(arguments).current_dir(workspace.target()).stdin(Stdio::null());
    for (variable, _) in env::vars_os() {
        if variable.to_string_lossy().starts_with("MALOTE__") {
            command.env_remove(variable);
        }
    }
    let output = command.output().with_context(|| format!("starting {}", workspace.binary().display()))?;
    if !output.status.success() || output.stdout.is_empty() {
        let trouble = String::from_utf8_lossy(&output.stderr);
        bail!("`malote {}` failed ({}): {}", arguments.join(" "), output.status, trouble.trim());
    }
    Ok(output.stdout)
}

/// Where a file differs first.
fn difference(current: Option<&[u8]>, generated: &[u8]) -> String {
    let Some(current) = current else { return "does not exist".to_owned() };
    let (current, generated) = (String::from_utf8_lossy(current), String::from_utf8_lossy(generated));
    let same = current.lines().zip(generated.lines()).take_while(|(a, b)| a == b).count();
    format!("differs from line {}", same + 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_difference_names_its_first_line() {
        assert_eq!(difference(Some(b"a\nb\n"), b"a\nc\n"), "differs from line 2");
        assert_eq!(difference(Some(b"a\n"), b"a\nb\n"), "differs from line 2");
        assert_eq!(difference(None, b"a\n"), "does not exist");
    }
}
