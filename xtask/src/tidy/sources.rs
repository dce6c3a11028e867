//! What every Rust source has (a header) and what none has (unfinished work, too many lines, the environment).

use super::{File, Finding};

const HEADER: &str = "header";
const UNFINISHED: &str = "unfinished";
const LENGTH: &str = "length";
const ENVIRONMENT: &str = "environment";

/// A file longer than this is more than one noun.
const MOST_LINES: usize = 700;

// The patterns are put together so that this file does not contain them.
const UNFINISHED_CODE: [&str; 4] =
    [concat!("to", "do!("), concat!("unimple", "mented!("), concat!("db", "g!("), concat!("#[ig", "nore")];
const UNFINISHED_COMMENTS: [&str; 3] = [concat!("TO", "DO"), concat!("FIX", "ME"), concat!("XX", "X")];
const READS_ENVIRONMENT: [&str; 2] = [concat!("env::", "var"), concat!("env::", "{var")];

/// The folders whose code may read environment variables: the binary, and what runs tests. A build script may, too: it learns
/// from cargo where its output goes.
const MAY_READ_ENVIRONMENT: [&str; 3] = ["crates/cli/", "tests/", "xtask/"];

/// Every finding in Rust sources.
pub fn check(sources: &[File]) -> Vec<Finding> {
    let mut findings = Vec::new();
    for File { path, text } in sources {
        if !text.starts_with("//!") {
            findings.push(Finding::new(path, HEADER, "the first line is not `//!` with what the file is"));
        }
        let lines = text.lines().count();
        if lines > MOST_LINES {
            findings.push(Finding::new(path, LENGTH, format!("{lines} lines; at most {MOST_LINES}")));
        }
        for (number, line) in (1..).zip(text.lines()) {
            let place = || format!("{path}:{number}");
            let (code, comment) = split_comment(line);
            for pattern in UNFINISHED_CODE.iter().filter(|pattern| code.contains(**pattern)) {
                findings.push(Finding::new(place(), UNFINISHED, format!("`{pattern}` in code")));
            }
            for word in identifiers(comment).filter(|word| UNFINISHED_COMMENTS.contains(word)) {
                findings.push(Finding::new(place(), UNFINISHED, format!("{word} in a comment")));
            }
            if READS_ENVIRONMENT.iter().any(|pattern| code.contains(pattern))
                && !MAY_READ_ENVIRONMENT.iter().any(|folder| path.starts_with(folder))
                && !path.ends_with("/build.rs")
            {
                let detail = "only cli reads environment variables; take the value as a parameter";
                findings.push(Finding::new(place(), ENVIRONMENT, detail));
            }
        }
    }
    findings
}

/// A line's code and its comment. `//` after a colon is part of a URL.
pub fn split_comment(line: &str) -> (&str, &str) {
    let start = line.match_indices("//").map(|(at, _)| at).find(|at| !line[..*at].ends_with(':'));
    line.split_at(start.unwrap_or(line.len()))
}

/// The identifiers and words of a text.
pub fn identifiers(text: &str) -> impl Iterator<Item = &str> {
    text.split(|character: char| !(character.is_alphanumeric() || character == '_'))
        .filter(|word| !word.is_empty())
}

#[cfg(test)]
mod tests {
    use super::super::file;
    use super::*;

    fn findings(path: &str, text: &str) -> Vec<String> {
        check(&[file(path, text)])
            .iter()
            .map(|finding| format!("{} {}", finding.place, finding.rule))
            .collect()
    }

    #[test]
    fn a_file_opens_with_its_header() {
        assert!(findings("a.rs", "//! A noun.\n").is_empty());
        assert_eq!(findings("a.rs", "\n//! A noun.\n"), ["a.rs header"]);
        assert_eq!(findings("a.rs", "// A noun.\n"), ["a.rs header"]);
    }

    #[test]
    fn a_file_has_at_most_700_lines() {
        let lines = |count: usize| format!("//! A noun.\n{}", "\n".repeat(count - 1));
        assert!(findings("a.rs", &lines(700)).is_empty());
        assert_eq!(findings("a.rs", &lines(701)), ["a.rs length"]);
    }

    #[test]
    fn unfinished_work_is_found_with_its_line() {
        for pattern in UNFINISHED_CODE {
            assert_eq!(
                findings("a.rs", &format!("//! A.\nfn a() {{ {pattern}) }}\n")),
                ["a.rs:2 unfinished"]
            );
        }
        for word in UNFINISHED_COMMENTS {
            assert_eq!(
                findings("a.rs", &format!("//! A.\n\nlet a = 1; // {word}: more\n")),
                ["a.rs:3 unfinished"]
            );
            assert!(
                findings("a.rs", &format!("//! A.\nlet a = \"{word}\"; // {word}S are fine\n")).is_empty()
            );
        }
    }

    #[test]
    fn the_environment_is_read_by_the_binary_and_the_tests_alone() {
        for pattern in READS_ENVIRONMENT {
            let text = format!("//! A.\nlet a = std::{pattern}(\"A\");\n");
            assert_eq!(findings("crates/store/src/a.rs", &text), ["crates/store/src/a.rs:2 environment"]);
            assert!(findings("crates/cli/src/a.rs", &text).is_empty());
            assert!(findings("tests/harness/src/a.rs", &text).is_empty());
            assert!(findings("crates/store/build.rs", &text).is_empty());
            assert!(findings("crates/store/src/a.rs", &format!("//! Never calls {pattern}.\n")).is_empty());
        }
    }

    #[test]
    fn the_comment_of_a_line_starts_at_two_slashes_that_are_not_a_urls() {
        assert_eq!(split_comment("let a = 1; // why"), ("let a = 1; ", "// why"));
        assert_eq!(split_comment(r#"let a = "http://b"; // why"#), (r#"let a = "http://b"; "#, "// why"));
        assert_eq!(split_comment(r#"let a = "http://b";"#), (r#"let a = "http://b";"#, ""));
    }
}
