//! Names that say what they stand for: neither a function nor a type is named by "of" and what it belongs to.

use super::code::{tokens, without_tests};
use super::{File, Finding};

const RULE: &str = "name";

/// A name with so many underscores is the sentence of a test or law.
const SENTENCE: usize = 4;

/// What declares a type.
const TYPES: [&str; 4] = ["enum", "struct", "trait", "type"];

/// Every `fn of_…` and every type `Of…` outside tests.
pub fn check(sources: &[File]) -> Vec<Finding> {
    let mut findings = Vec::new();
    for File { path, text } in sources {
        for pair in without_tests(tokens(text)).windows(2) {
            let [(keyword, _), (name, line)] = pair else { continue };
            let is_function =
                *keyword == "fn" && name.starts_with("of_") && name.matches('_').count() < SENTENCE;
            let is_type = TYPES.contains(keyword)
                && name.strip_prefix("Of").is_some_and(|rest| rest.starts_with(char::is_uppercase));
            if is_type || is_function {
                let detail = format!("`{name}` says of what, and not what: name what it is or returns");
                findings.push(Finding::new(format!("{path}:{line}"), RULE, detail));
            }
        }
    }
    findings
}

#[cfg(test)]
mod tests {
    use super::super::file;
    use super::*;

    #[test]
    fn a_name_that_begins_with_a_preposition_is_found() {
        let check_text = |text: &str| check(&[file("a.rs", text)]).len();
        for text in ["fn of_day() {}", "pub struct OfDay;", "enum OfStore {}", "pub(crate) fn of_list() {}"] {
            assert_eq!(check_text(text), 1, "{text}");
        }
        for text in
            ["fn offset() {}", "struct Offset;", "let of_day = 1;", "fn of_two_that_ask_one_waits() {}"]
        {
            assert_eq!(check_text(text), 0, "{text}");
        }
    }
}
