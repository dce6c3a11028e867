//! No function is too long to be read at once; tests may be.

use super::code::{tokens, without_tests};
use super::{File, Finding, is_test};

const RULE: &str = "function";

/// Including the signature.
const MOST_LINES: usize = 80;

/// Code beside the tests that is read like other code.
const SUPPORT: [&str; 4] = ["tests/bench/", "tests/fuzz-targets/", "tests/harness/", "tests/src/"];

/// Every function of the crates and the build tool that is too long.
pub fn check(sources: &[File]) -> Vec<Finding> {
    let mut findings = Vec::new();
    let is_measured = |path: &str| !is_test(path) || SUPPORT.iter().any(|folder| path.starts_with(folder));
    for File { path, text } in sources.iter().filter(|file| is_measured(&file.path)) {
        let tokens = without_tests(tokens(text));
        for (index, (token, line)) in tokens.iter().enumerate() {
            let is_name = |next: &&(&str, usize)| *token == "fn" && next.0 != "(";
            let Some((name, _)) = tokens.get(index + 1).filter(is_name) else { continue };
            let lines = last_line(&tokens[index..]).map_or(0, |last| last - line + 1);
            if lines > MOST_LINES {
                let detail = format!("`{name}` has {lines} lines; at most {MOST_LINES}");
                findings.push(Finding::new(format!("{path}:{line}"), RULE, detail));
            }
        }
    }
    findings
}

/// The line of the end of the block that begins first; `None` where a semicolon comes before it.
fn last_line(tokens: &[(&str, usize)]) -> Option<usize> {
    let mut depth = 0;
    for (token, line) in tokens {
        match *token {
            "{" | "[" => depth += 1,
            "]" => depth -= 1,
            "}" if depth == 1 => return Some(*line),
            "}" => depth -= 1,
            ";" if depth == 0 => return None,
            _ => {}
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::super::file;
    use super::*;

    fn findings(path: &str, text: &str) -> Vec<String> {
        check(&[file(path, text)]).iter().map(ToString::to_string).collect()
    }

    #[test]
    fn a_function_has_at_most_80_lines() {
        let source = |lines: usize| format!("//! A.\n\nfn long() {{\n{}}}\n", "    {}\n".repeat(lines - 2));
        assert!(findings("crates/a/src/a.rs", &source(80)).is_empty());
        for path in ["crates/a/src/a.rs", "tests/harness/src/a.rs"] {
            let expect = format!("{path}:3: [function] `long` has 81 lines; at most 80");
            assert_eq!(findings(path, &source(81)), [expect]);
        }
        for test in ["crates/a/src/tests.rs", "crates/a/src/a/tests/b.rs", "tests/suite/a.rs"] {
            assert!(findings(test, &source(81)).is_empty());
        }
    }

    #[test]
    fn what_has_no_body_and_what_is_a_test_is_not_measured() {
        let many = "\n".repeat(90);
        for text in [
            format!("trait A {{ fn a(b: [u8; 2]); {many} }}"),
            format!("struct A {{ a: fn(u8) }} {many} struct B;"),
            format!("#[cfg(test)]\nmod tests {{ fn a() {{ {many} }} }}"),
        ] {
            assert!(findings("crates/a/src/a.rs", &text).is_empty(), "{text}");
        }
    }
}
