//! Phrases that confused readers, and what to write instead.
//!
//! They are looked for in code, comments, messages and documents alike, also across a line break. A phrase that is right in
//! some place is too short for this list.

use super::{File, Finding};

const RULE: &str = "phrase";

/// This file, which has to name them.
const OWN: &str = "xtask/src/tidy/phrases.rs";

/// Each phrase, in lower case and complete words, and its replacement.
const PHRASES: &[(&str, &str)] = &[
    ("anew", "again"),
    ("are away", "are down"),
    ("be believed", "be authenticated"),
    ("be looked at", "be inspected"),
    ("became of", "the outcome of"),
    ("become of", "the outcome of"),
    ("becomes of", "the outcome of"),
    ("believes", "accepts, or trusts"),
    ("beside the work", "in the background"),
    ("came of", "the result of"),
    ("comes of", "the result of"),
    ("declared otherwise", "declared with other arguments"),
    ("every event there is", "all events"),
    ("fn of", "a name for what it returns or does"),
    ("fn said", "a name for what it returns or does"),
    ("fn told", "a name for what it returns or does"),
    ("fn words", "a name for what it returns or does"),
    ("for ever", "forever"),
    ("goes on by itself", "resumes by itself"),
    ("gone through", "processed"),
    ("handed to nobody", "not delivered"),
    ("has it fixed", "it is fixed in"),
    ("in small steps", "gradually"),
    ("in the midst", "midway"),
    ("is away", "is down"),
    ("is believed", "is accepted without authentication"),
    ("is let be", "is left unchanged"),
    ("let it be", "close without retrying, or left unchanged"),
    ("let of", "a name for what it is"),
    ("longer let be", "open again"),
    ("mend", "fix"),
    ("mended", "fixed"),
    ("mending", "fixing"),
    ("mends", "fixes"),
    ("names nobody", "pseudonymous"),
    ("no failed attempt", "does not count as an attempt"),
    ("nobody is bound", "no queue is bound"),
    ("nobody's wish", "must never be dropped"),
    ("of before", "earlier"),
    ("of today", "current"),
    ("on its way", "in flight, or already sent"),
    ("on their way", "in flight, or already sent"),
    ("pass for", "impersonate"),
    ("put aside", "set aside"),
    ("puts aside", "sets aside"),
    ("sends it otherwise", "fixes the request"),
    ("stand still", "get stuck"),
    ("still owe", "pending at"),
    ("still owes", "is pending at"),
    ("takes no", "accepts no, or does not accept"),
    ("tells of", "describes, or lists"),
    ("the books of a day", "daily reconciliation"),
    ("told of", "reported"),
    ("under their own name", "by name"),
    ("was away", "was down"),
    ("whoever", "the user, or the caller"),
    ("whoever needs it", "every subscriber"),
    ("without an end", "without limit, or forever"),
];

/// Every place with one of the phrases.
pub fn check(files: &[File]) -> Vec<Finding> {
    let mut findings = Vec::new();
    for File { path, text } in files.iter().filter(|file| file.path != OWN) {
        let lines: Vec<String> = text.lines().map(plain).collect();
        for (number, line) in (1..).zip(&lines) {
            // A phrase may end on the next line.
            let joined = match lines.get(number) {
                Some(next) => format!(" {line} {next} "),
                None => format!(" {line} "),
            };
            for (phrase, instead) in PHRASES {
                let begins_here = |(at, _): (usize, &str)| at < line.len();
                if joined.match_indices(&format!(" {phrase} ")).any(begins_here) {
                    let detail = format!("\"{phrase}\": write plainly, such as \"{instead}\"");
                    findings.push(Finding::new(format!("{path}:{number}"), RULE, detail));
                }
            }
        }
    }
    findings
}

/// A line's words in lower case, parted by single spaces: no markers of comments, no punctuation.
fn plain(line: &str) -> String {
    let words = line.split(|c: char| !(c.is_alphanumeric() || c == '\'' || c == '_'));
    words.filter(|word| !word.is_empty()).map(str::to_lowercase).collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use super::super::file;
    use super::*;

    fn places(path: &str, text: &str) -> Vec<String> {
        check(&[file(path, text)]).into_iter().map(|finding| finding.place).collect()
    }

    #[test]
    fn a_phrase_is_found_in_text_code_and_messages_whatever_stands_around_it() {
        for text in [
            "/// What became of it.",
            "\"the broker is away: refused\"",
            "- *The broker* is away",
            "## Is away",
            "let mend = 1;",
        ] {
            assert_eq!(places("a.rs", &format!("\n{text}\n")), ["a.rs:2"], "{text}");
        }
        for text in ["the broker is awayish", "amends", "let mend_all = 1;", "The broker is. Awake"] {
            assert_eq!(places("a.rs", text), [""; 0], "{text}");
        }
    }

    #[test]
    fn a_phrase_over_two_lines_is_found_once_at_its_beginning() {
        assert_eq!(places("a.rs", "//! The broker is\n//! away, and\n//! more.\n"), ["a.rs:1"]);
    }

    #[test]
    fn every_phrase_is_in_plain_form_and_in_order() {
        assert!(PHRASES.iter().all(|(phrase, _)| plain(phrase) == *phrase));
        assert!(PHRASES.is_sorted());
    }
}
