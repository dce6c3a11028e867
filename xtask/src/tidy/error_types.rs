//! An error has a type: its caller decides by variants, not by reading a text.

use super::code::{tokens, without_tests};
use super::{File, Finding, is_test};

const RULE: &str = "error-type";

/// Every `Result` outside tests whose error is a `String`.
pub fn check(sources: &[File]) -> Vec<Finding> {
    let mut findings = Vec::new();
    for File { path, text } in sources.iter().filter(|file| !is_test(&file.path)) {
        let tokens = without_tests(tokens(text));
        for (index, (token, line)) in tokens.iter().enumerate() {
            if *token == "Result" && last_argument(&tokens[index + 1..]) == ["String"] {
                let detail = "the error of a `Result` is a `String`: give it a type, with `thiserror`";
                findings.push(Finding::new(format!("{path}:{line}"), RULE, detail));
            }
        }
    }
    findings
}

/// The last of the generic arguments that begin here; empty where there are fewer than two.
fn last_argument<'a>(tokens: &[(&'a str, usize)]) -> Vec<&'a str> {
    let (mut depth, mut arguments, mut before) = (0, vec![Vec::new()], "");
    for (token, _) in tokens {
        match *token {
            "<" | "(" | "[" => depth += 1,
            // The arrow of a function's type closes nothing.
            ">" if before == "-" => {}
            ">" | ")" | "]" => depth -= 1,
            "," if depth == 1 => arguments.push(Vec::new()),
            _ => {}
        }
        match depth {
            0 => break,
            1 if ["<", ","].contains(token) => {}
            _ => {
                let last = arguments.len() - 1;
                arguments[last].push(*token);
            }
        }
        before = token;
    }
    // After a trailing comma there is none.
    arguments.retain(|argument| !argument.is_empty());
    if arguments.len() > 1 { arguments.pop().unwrap_or_default() } else { Vec::new() }
}

#[cfg(test)]
mod tests {
    use super::super::file;
    use super::*;

    fn findings(path: &str, text: &str) -> usize {
        check(&[file(path, text)]).len()
    }

    #[test]
    fn an_error_is_no_string() {
        for text in [
            "fn a() -> Result<(), String> {}",
            "fn a() -> Result<Vec<(u8, Option<u8>)>, String> {}",
            "fn a() -> std::result::Result<\n    fn(u8) -> u8,\n    String,\n> {}",
            "type A = Arc<dyn Fn(&B) -> Result<C, String> + Send>;",
            "struct A { b: Result<[u8; 2], String> }",
        ] {
            assert_eq!(findings("crates/a/src/a.rs", text), 1, "{text}");
        }
    }

    #[test]
    fn a_string_elsewhere_and_a_test_are_no_findings() {
        for text in [
            "fn a() -> Result<String> {}",
            "fn a() -> Result<String, Error> {}",
            "fn a() -> Result<(), Wrong<String>> {}",
            "fn a() -> Option<String> {}",
            "#[cfg(test)]\nmod tests { fn a() -> Result<(), String> {} }",
        ] {
            assert_eq!(findings("crates/a/src/a.rs", text), 0, "{text}");
        }
        let text = "fn a() -> Result<(), String> {}";
        for path in ["crates/a/src/tests.rs", "crates/a/src/a/tests/b.rs", "tests/suite/a.rs"] {
            assert_eq!(findings(path, text), 0, "{path}");
        }
    }
}
