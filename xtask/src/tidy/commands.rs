//! Cargo commands in documents and scripts: each uses the dependencies of Cargo.lock.

use super::{File, Finding};

const RULE: &str = "locked";

/// Where the commands are, relative to the root.
pub const FILES: [&str; 7] = [
    "README.md",
    "CONTRIBUTING.md",
    "SECURITY.md",
    "CHANGELOG.md",
    "deploy/Containerfile",
    ".ci/run",
    ".cargo/config.toml",
];

/// The subcommands that resolve dependencies on the way to a binary. `cargo check`, `add` and `update` are how
/// Cargo.lock is changed.
const SUBCOMMANDS: [&str; 6] = ["build", "clippy", "install", "run", "rustc", "test"];

/// Every command without `--locked`. A command ends with its line, its quotation marks or at `&&`.
pub fn check(files: &[File]) -> Vec<Finding> {
    let mut findings = Vec::new();
    for File { path, text } in files {
        for (number, line) in (1..).zip(text.lines()) {
            for command in line.split("&&").flat_map(|part| part.split(['`', '"'])) {
                // An alias is what follows `cargo`.
                let command =
                    command.strip_prefix("cargo ").or_else(|| command.split_once(" cargo ").map(|(_, c)| c));
                let alias = (path == ".cargo/config.toml").then(|| line.split('"').nth(1)).flatten();
                let mut words = command.or(alias).unwrap_or_default().split_whitespace();
                if words.next().is_some_and(|word| SUBCOMMANDS.contains(&word))
                    && !words.any(|word| word == "--locked")
                {
                    let detail = "add `--locked`: cargo would build other versions than were tested";
                    findings.push(Finding::new(format!("{path}:{number}"), RULE, detail));
                    break;
                }
            }
        }
    }
    findings
}

#[cfg(test)]
mod tests {
    use super::super::file;
    use super::*;

    fn places(path: &str, text: &str) -> Vec<String> {
        check(&[file(path, text)]).into_iter().map(|finding| finding.place).collect()
    }

    #[test]
    fn every_command_that_builds_is_locked() {
        for good in [
            "    cargo run --locked -- demo",
            "`cargo install --locked --path crates/cli`",
            "    cargo build --profile dist --locked && cp a b",
            "    cargo xtask test",
            "    cargo check",
            "the cargo runs",
        ] {
            assert_eq!(places("README.md", good), [""; 0], "{good}");
        }
        for bad in [
            "cargo run -- demo",
            "    cargo test -p a # --lock",
            "RUN x && cargo build --profile dist",
            "    cargo build && cargo run --locked",
            "Install with `cargo install --path crates/cli`, not `--locked`",
        ] {
            assert_eq!(places("README.md", &format!("\n{bad}\n")), ["README.md:2"], "{bad}");
        }
    }

    #[test]
    fn an_alias_is_a_command() {
        let alias = "[alias]\nxtask = \"run --quiet --package xtask --\"\n";
        assert_eq!(places(".cargo/config.toml", alias), [".cargo/config.toml:2"]);
        assert_eq!(places(".cargo/config.toml", &alias.replace("run", "run --locked")), [""; 0]);
    }
}
