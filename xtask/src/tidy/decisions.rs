//! The decision records: each has all its parts, in particular its downsides, and is in the index.

use super::{File, Finding};

const RULE: &str = "decision";

/// Where they are, relative to the root.
pub const FOLDER: &str = "docs/decisions";

const INDEX: &str = "docs/decisions/README.md";

const HEADINGS: [&str; 4] = ["## Context", "## Decision", "## Downsides", "## Alternatives considered"];

/// Every incomplete record. `files` are those of the folder, sorted by name.
pub fn check(files: &[File]) -> Vec<Finding> {
    let index = files.iter().find(|file| file.path == INDEX).map_or("", |file| file.text.as_str());
    let mut findings = Vec::new();
    for (number, File { path, text }) in (1..).zip(files.iter().filter(|file| file.path != INDEX)) {
        let mut finding = |detail: String| findings.push(Finding::new(path, RULE, detail));
        let name = path.rsplit('/').next().unwrap_or_default();
        if !name.starts_with(&format!("{number:04}-")) {
            finding(format!(
                "expected the name to start with {number:04}-: records are numbered without a gap"
            ));
        }
        let headings: Vec<_> = text.lines().filter(|line| line.starts_with("## ")).collect();
        if headings != HEADINGS {
            finding(format!("expected the headings {}", HEADINGS.join(", ")));
        }
        if !index.contains(&format!("({name})")) {
            finding(format!("is not in the table of {INDEX}: add its line"));
        }
    }
    findings
}

#[cfg(test)]
mod tests {
    use super::super::file;
    use super::*;

    const RECORD: &str =
        "# 1. A\n\n## Context\n\n## Decision\n\n## Downsides\n\n## Alternatives considered\n";

    fn findings(name: &str, text: &str) -> Vec<String> {
        let index = file(INDEX, "| [0001](0001-a.md) | A |\n");
        let findings = check(&[file(&format!("{FOLDER}/{name}"), text), index]);
        findings.into_iter().map(|finding| finding.detail).collect()
    }

    #[test]
    fn a_record_has_its_four_parts_in_order_its_number_and_its_line_in_the_index() {
        assert_eq!(findings("0001-a.md", RECORD), [""; 0]);
        let expected =
            "expected the headings ## Context, ## Decision, ## Downsides, ## Alternatives considered";
        assert_eq!(findings("0001-a.md", &RECORD.replace("## Downsides", "")), [expected]);
        let second = findings("0002-a.md", RECORD);
        assert!(second[0].starts_with("expected the name to start with 0001-"), "{second:?}");
        assert!(second[1].starts_with("is not in the table"), "{second:?}");
    }
}
