//! Everything that ARCHITECTURE.md names exists, and it names every crate.
//!
//! What counts as a name: a link to a file, and of the text between backticks a path below a folder of ours
//! (`crates/broker/src/topology.rs`, `deploy/`), a file name that ends in `.rs`, a type or an item of one
//! (`EventId`, `Event::to_message`), and a word beside the word "crate" (the `store` crate). Everything else between
//! backticks (topics, queues, settings, addresses) is left alone. Fenced code blocks are drawings and are left alone.

use std::collections::BTreeSet;

use super::sources::{identifiers, split_comment};
use super::{File, Finding};

/// The rule's name.
pub const RULE: &str = "architecture";

const FILE: &str = "ARCHITECTURE.md";

/// The folders at the root that paths are recognised by.
const FOLDERS: [&str; 7] = [".ci/", ".cargo/", "crates/", "deploy/", "docs/", "tests/", "xtask/"];

/// Every name that leads nowhere, and every crate (`(name, folder)`) that is not named.
pub fn check(
    text: &str,
    crates: &[(&str, &str)],
    sources: &[File],
    exists: &dyn Fn(&str) -> bool,
) -> Vec<Finding> {
    // The build tool's own sources name types of the past in the tests of its rules.
    let sources: Vec<_> = sources.iter().filter(|file| !file.path.starts_with("xtask/")).collect();
    let lines = sources.iter().flat_map(|file| file.text.lines());
    let identifiers: BTreeSet<&str> = lines.flat_map(|line| identifiers(split_comment(line).0)).collect();

    let mut findings = Vec::new();
    let mut named = BTreeSet::new();
    let mut fenced = false;
    for (number, line) in (1..).zip(text.lines()) {
        if line.trim_start().starts_with("```") {
            fenced = !fenced;
        }
        if fenced {
            continue;
        }
        let mut missing =
            |detail: String| findings.push(Finding::new(format!("{FILE}:{number}"), RULE, detail));
        for target in links(line) {
            named.insert(target.trim_end_matches('/'));
            if !exists(target) {
                missing(format!("links to {target}, which does not exist"));
            }
        }
        for Code { text, beside_crate } in codes(line) {
            let path = text.trim_end_matches('/');
            named.insert(path);
            if FOLDERS.iter().any(|folder| text.starts_with(folder)) && is_path(text) {
                if !exists(path) {
                    missing(format!("names `{text}`, which does not exist"));
                }
            } else if text.ends_with(".rs") && is_path(text) {
                let suffix = format!("/{text}");
                if !sources.iter().any(|file| file.path.ends_with(&suffix)) {
                    missing(format!("names `{text}`, and no source has that name"));
                }
            } else if let Some(unknown) =
                item(text).into_iter().find(|word| !is_known(word, &identifiers, crates))
            {
                missing(format!("names `{text}`, and no source has `{unknown}`"));
            } else if beside_crate && is_crate_name(text) && !crates.iter().any(|(name, _)| *name == text) {
                missing(format!("names the crate `{text}`, which does not exist"));
            }
        }
    }
    for (name, folder) in crates.iter().filter(|(_, folder)| folder.starts_with("crates/")) {
        let below = format!("{folder}/");
        if !named.iter().any(|path| path == name || path == folder || path.starts_with(&below)) {
            findings.push(Finding::new(FILE, RULE, format!("does not name {folder}")));
        }
    }
    findings
}

/// A text between backticks.
struct Code<'a> {
    text: &'a str,
    /// Whether the word before or after it is "crate".
    beside_crate: bool,
}

fn codes(line: &str) -> Vec<Code<'_>> {
    let parts: Vec<_> = line.split('`').collect();
    // An odd part lies between two backticks only when another part follows it.
    let inner = (1..parts.len().saturating_sub(1)).step_by(2);
    let code = |at: usize| {
        let before = parts[at - 1].trim_end().ends_with("crate");
        let after = identifiers(parts[at + 1]).next() == Some("crate") && parts[at + 1].starts_with(' ');
        Code { text: parts[at], beside_crate: before || after }
    };
    inner.map(code).collect()
}

/// The targets of Markdown links to files of the repository, without their fragments.
fn links(line: &str) -> Vec<&str> {
    let targets = line.split("](").skip(1).filter_map(|rest| rest.split([')', '#']).next());
    targets
        .filter(|target| !target.is_empty() && !target.contains("://") && !target.starts_with("mailto:"))
        .collect()
}

/// Whether a text is one definite path: no pattern, no placeholder, no command line.
fn is_path(text: &str) -> bool {
    text.chars().all(|character| character.is_ascii_alphanumeric() || "/._-".contains(character))
}

/// The words of a type or of an item of one; none when the text is something else.
///
/// A type starts with a capital letter and has a small one: `SQL` and `SIGTERM` are not types.
fn item(text: &str) -> Vec<&str> {
    let text = text.split(['(', '<']).next().unwrap_or_default();
    let segments: Vec<_> = text.split("::").collect();
    let is_word = |word: &&str| !word.is_empty() && identifiers(word).next() == Some(word);
    let is_type = |word: &&str| {
        word.starts_with(|first: char| first.is_ascii_uppercase())
            && word.contains(|c: char| c.is_ascii_lowercase())
    };
    if segments.iter().all(is_word) && segments.iter().any(is_type) { segments } else { Vec::new() }
}

fn is_known(word: &str, identifiers: &BTreeSet<&str>, crates: &[(&str, &str)]) -> bool {
    identifiers.contains(word) || crates.iter().any(|(name, _)| name.replace('-', "_") == word)
}

fn is_crate_name(text: &str) -> bool {
    text.chars().all(|character| character.is_ascii_lowercase() || character == '-')
}

#[cfg(test)]
mod tests {
    use super::super::file;
    use super::*;

    fn findings(text: &str) -> Vec<String> {
        let crates =
            [("event", "crates/event"), ("broker-rabbitmq", "crates/broker-rabbitmq"), ("tests", "tests")];
        let sources = [
            file(
                "crates/event/src/lib.rs",
                "pub struct EventId; impl Event { fn to_message() {} } // OldName\n",
            ),
            file("xtask/src/main.rs", "struct OnlyInXtask;\n"),
        ];
        let exists = |path: &str| ["crates/event/src/lib.rs", "crates/event", "README.md"].contains(&path);
        check(text, &crates, &sources, &exists).into_iter().map(|finding| finding.detail).collect()
    }

    /// The findings of a text that names every crate besides.
    fn found(text: &str) -> Vec<String> {
        findings(&format!("`event` `broker-rabbitmq`\n{text}"))
    }

    #[test]
    fn names_that_lead_somewhere_are_no_findings() {
        let text = "`crates/event/`, `crates/event/src/lib.rs`, `lib.rs`, [x](README.md#y), [z](https://example.org), \
            `EventId`, `Event::to_message()`, `event::EventId`, the `event` crate, crate `broker-rabbitmq`";
        assert!(found(text).is_empty(), "{:?}", found(text));
    }

    #[test]
    fn words_that_are_no_names_are_left_alone() {
        let text = "`/webhooks/{source}`, `order/0000593098`, `retry.<delay>`, `Retry-After`, `SQL`, `crates/*/src`, `up`";
        assert!(found(text).is_empty(), "{:?}", found(text));
        assert!(found("```\n`Nothing`\n```\n").is_empty());
    }

    #[test]
    fn names_that_lead_nowhere_are_found() {
        for (text, detail) in [
            ("`crates/event/src/old.rs`", "names `crates/event/src/old.rs`, which does not exist"),
            ("`old.rs`", "names `old.rs`, and no source has that name"),
            ("`OldName`", "names `OldName`, and no source has `OldName`"),
            ("`OnlyInXtask`", "names `OnlyInXtask`, and no source has `OnlyInXtask`"),
            ("`EventId::old`", "names `EventId::old`, and no source has `old`"),
            ("[x](docs/old.md)", "links to docs/old.md, which does not exist"),
            ("the `old` crate", "names the crate `old`, which does not exist"),
            ("crate `old-name`", "names the crate `old-name`, which does not exist"),
        ] {
            assert_eq!(found(text), [detail]);
        }
    }

    #[test]
    fn every_crate_is_named_by_name_folder_or_file() {
        assert!(findings("`crates/event/src/lib.rs` and `broker-rabbitmq`").is_empty());
        assert_eq!(findings("`event` alone"), ["does not name crates/broker-rabbitmq"]);
    }
}
