//! docs/reliability.md: how its tables are read, then the fault table of each series of servers that was tested.
//!
//! Promises that a run replaces the table of its own servers and leaves the others as they are.

use std::path::Path;

use anyhow::{Context, Result};
use harness::Versions;

/// The text above the tables.
const HEAD: &str = include_str!("reliability.md");

/// What the fault tests write in full, and the heading that each table gets.
const TABLES: [(&str, &str); 5] = [
    ("faults.md", ""),
    ("pushes.md", "### Push subscriptions\n\n"),
    ("fetches.md", "### Documents of a provider's API\n\n"),
    ("floods-embedded.md", "### Floods, embedded\n\n"),
    ("floods-rabbitmq.md", "### Floods in front of RabbitMQ\n\n"),
];

/// Writes the tables of these servers, which are in `tables`, into the document.
///
/// # Errors
/// A file cannot be read or written.
pub fn write(file: &Path, versions: &Versions, tables: &Path) -> Result<()> {
    let read =
        |path: &Path| std::fs::read_to_string(path).with_context(|| format!("reading {}", path.display()));
    let sections = TABLES.map(|(name, heading)| Ok(format!("{heading}{}", read(&tables.join(name))?.trim())));
    let section = sections.into_iter().collect::<Result<Vec<_>>>()?.join("\n\n");
    std::fs::write(file, with_table(&read(file)?, versions, &section)).context("writing docs/reliability.md")
}

/// The document with this text in the section of its servers' series, in the order of RabbitMQ's versions.
fn with_table(document: &str, versions: &Versions, table: &str) -> String {
    let title = versions.to_string();
    let new = series(&title);
    let mut sections: Vec<(&str, String)> = document
        .split("\n## ")
        .skip(1)
        .filter_map(|section| section.split_once('\n'))
        .map(|(title, text)| (title, text.trim().to_owned()))
        .filter(|(title, _)| series(title).is_some_and(|series| Some(series) != new))
        .collect();
    sections.push((&title, table.trim().to_owned()));
    sections.sort_by_key(|(title, _)| series(title));
    let sections = sections.iter().map(|(title, text)| format!("\n## {title}\n\n{text}\n"));
    format!("{}\n{}", HEAD.trim_end(), sections.collect::<String>())
}

/// The first two numbers of the version in `RabbitMQ 3.10.8 and PostgreSQL 15.18`.
fn series(title: &str) -> Option<(u32, u32)> {
    let mut numbers = title.split(' ').nth(1)?.split('.').map(str::parse);
    Some((numbers.next()?.ok()?, numbers.next()?.ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_run_replaces_the_table_of_its_own_series_and_no_other() {
        let versions =
            |rabbitmq: &str| Versions { rabbitmq: rabbitmq.to_owned(), postgres: "15.1".to_owned() };
        let one = with_table("# Reliability\n", &versions("4.3.6"), "| new |\n");
        let two = with_table(&one, &versions("3.10.8"), "| old |\n");
        assert!(two.starts_with(HEAD.trim_end()), "{two}");
        let old = two.find("\n## RabbitMQ 3.10.8 and PostgreSQL 15.1\n\n| old |\n").unwrap();
        assert!(old < two.find("\n## RabbitMQ 4.3.6 and PostgreSQL 15.1\n\n| new |\n").unwrap());
        let again = with_table(&two, &versions("4.3.7"), "| newer |\n");
        assert!(
            again.contains("| old |") && again.contains("4.3.7") && again.contains("| newer |"),
            "{again}"
        );
        assert!(!again.contains("4.3.6") && !again.contains("| new |"), "{again}");
    }
}
