//! `malote completions` and `malote manual`: what a shell and `man` know of the commands, from the one registry.

use std::fs;
use std::path::Path;

use anyhow::{Context, Result};
use clap_complete::Shell;

use crate::{parser, report};

/// The completions for a shell.
pub fn completions(shell: Shell) -> String {
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut parser::tree(), "malote", &mut script);
    String::from_utf8(script).expect("a script is made of the texts of the commands")
}

/// Writes a page of section 1 for each command to a folder, which is made if it is missing.
pub fn manual(folder: &Path) -> Result<()> {
    fs::create_dir_all(folder)
        .and_then(|()| clap_mangen::generate_to(parser::tree(), folder))
        .with_context(|| format!("cannot write the manual to {}", folder.display()))?;
    report::line(format!("Written. `man -l {}` shows the first page.", folder.join("malote.1").display()));
    Ok(())
}

#[cfg(test)]
mod tests {
    use clap::{Command, ValueEnum};

    use super::*;

    /// The paths of all commands that are listed, such as `malote-events-list`.
    fn paths(command: &Command, path: &str, all: &mut Vec<String>) {
        all.push(path.to_owned());
        for child in command.get_subcommands().filter(|child| !child.is_hide_set()) {
            paths(child, &format!("{path}-{}", child.get_name()), all);
        }
    }

    #[test]
    fn every_shell_completes_commands_and_their_options() {
        for shell in Shell::value_variants() {
            let script = completions(*shell);
            for expect in ["events", "tail", "caused-by", "prescriptions", "rotate-secret"] {
                assert!(script.contains(expect), "{shell}: {expect}");
            }
        }
    }

    #[test]
    fn every_command_has_a_page() {
        let folder = tempfile::tempdir().unwrap();
        manual(&folder.path().join("man1")).unwrap();
        let mut all = Vec::new();
        paths(&parser::tree(), "malote", &mut all);
        assert!(all.contains(&"malote-events-tail".to_owned()));
        for path in all {
            let page = fs::read_to_string(folder.path().join(format!("man1/{path}.1"))).expect(&path);
            assert!(page.contains(".TH ") && page.contains("SYNOPSIS"), "{path}: {page}");
        }
    }
}
