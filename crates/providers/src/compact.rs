//! JSON values as compact text with sorted keys: valid JSON, and equal for equal values. One pass, however deep a value
//! is nested.

use std::borrow::Cow;
use std::collections::BTreeMap;

use crate::value::{integer, without_nul};

/// The compact text of valid JSON: keys sorted, no spaces, strings escaped in one way and without NUL, numbers as
/// written, but integral ones as integers. An empty array equals an empty object, since PHP writes `[]` for `{}`. Of a
/// duplicate key, the last value counts.
///
/// Recursion is bounded by the depth of a body, [`crate::scan::DEPTH_LIMIT`].
pub(crate) fn compact(json: &str) -> String {
    let mut text = String::with_capacity(json.len());
    Scanner { rest: json }.value().write(&mut text);
    text
}

enum Node<'a> {
    Object(BTreeMap<String, Node<'a>>),
    Array(Vec<Node<'a>>),
    /// A number, a literal, or a string as JSON.
    Scalar(Cow<'a, str>),
}

impl Node<'_> {
    fn write(&self, text: &mut String) {
        match self {
            Self::Object(fields) => {
                text.push('{');
                for (index, (name, value)) in fields.iter().enumerate() {
                    text.push_str(if index == 0 { "" } else { "," });
                    text.push_str(&quoted(name));
                    text.push(':');
                    value.write(text);
                }
                text.push('}');
            }
            Self::Array(items) if items.is_empty() => text.push_str("{}"),
            Self::Array(items) => {
                text.push('[');
                for (index, item) in items.iter().enumerate() {
                    text.push_str(if index == 0 { "" } else { "," });
                    item.write(text);
                }
                text.push(']');
            }
            Self::Scalar(json) => text.push_str(json),
        }
    }
}

fn quoted(text: &str) -> String {
    serde_json::to_string(text).expect("a text is JSON")
}

/// Scans a text that is known to be JSON.
struct Scanner<'a> {
    rest: &'a str,
}

impl<'a> Scanner<'a> {
    fn value(&mut self) -> Node<'a> {
        match self.next_byte() {
            Some(b'{') => {
                let mut fields = BTreeMap::new();
                self.each(b'}', |scanner| {
                    let name = scanner.string();
                    scanner.skip(b':');
                    fields.insert(name, scanner.value());
                });
                Node::Object(fields)
            }
            Some(b'[') => {
                let mut items = Vec::new();
                self.each(b']', |scanner| items.push(scanner.value()));
                Node::Array(items)
            }
            Some(b'"') => Node::Scalar(Cow::Owned(quoted(&self.string()))),
            _ => {
                let end = self.rest.find([',', ']', '}', ' ', '\t', '\n', '\r']).unwrap_or(self.rest.len());
                Node::Scalar(integer(self.take(end.max(1))))
            }
        }
    }

    /// The elements of the array or object that begins here, up to its closing bracket.
    fn each(&mut self, close: u8, mut element: impl FnMut(&mut Self)) {
        self.take(1);
        while self.next_byte().is_some_and(|byte| byte != close) {
            element(self);
            self.skip(b',');
        }
        self.take(1);
    }

    /// The text of the string that begins here.
    fn string(&mut self) -> String {
        self.next_byte();
        let mut bytes = self.rest.bytes().enumerate().skip(1);
        let end = loop {
            match bytes.next() {
                Some((_, b'\\')) => drop(bytes.next()),
                Some((at, b'"')) => break at + 1,
                Some(_) => {}
                None => break self.rest.len(),
            }
        };
        without_nul(serde_json::from_str(self.take(end)).unwrap_or_default())
    }

    /// The first byte that is not white space.
    fn next_byte(&mut self) -> Option<u8> {
        self.rest = self.rest.trim_start();
        self.rest.bytes().next()
    }

    fn skip(&mut self, byte: u8) {
        if self.next_byte() == Some(byte) {
            self.take(1);
        }
    }

    fn take(&mut self, bytes: usize) -> &'a str {
        let (taken, rest) = self.rest.split_at(bytes.min(self.rest.len()));
        self.rest = rest;
        taken
    }
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, Instant};

    use super::*;

    #[test]
    fn equal_values_have_one_text() {
        let check = |json: &str, expect: &str| assert_eq!(compact(json), expect, "{json}");
        check(
            r#"{"b": [1, {"y": 1.50, "x": null}], "a": "\u00e7\/"}"#,
            r#"{"a":"ç/","b":[1,{"x":null,"y":1.50}]}"#,
        );
        check(" { } ", "{}");
        check("[ [], {\n}, \"\" ]", r#"[{},{},""]"#);
        check(r#"{"a\u0000": "x\u0000y", "b": "\\\""}"#, r#"{"a":"xy","b":"\\\""}"#);
        check(r#"{"a": 12.0, "b": 1e2, "c": -0.5, "d": true}"#, r#"{"a":12,"b":100,"c":-0.5,"d":true}"#);
        check(r#"{"a": 1, "a": 2}"#, r#"{"a":2}"#);
        check("7", "7");
        check(r#""token""#, r#""token""#);
    }

    /// Nesting does not multiply the cost: the same bytes cost about the same, flat and 120 levels deep.
    #[test]
    fn the_work_grows_with_the_size_and_not_with_the_depth() {
        let leaf = format!("[{}]", vec!["1"; 50_000].join(","));
        let nested = |levels: usize| format!("{}{leaf}{}", r#"{"a":"#.repeat(levels), "}".repeat(levels));
        let cost = |json: &str| {
            let run = || {
                let started = Instant::now();
                assert_eq!(compact(json).len(), json.len());
                started.elapsed()
            };
            (0..5).map(|_| run()).min().unwrap_or(Duration::MAX)
        };
        let (flat, deep) = (cost(&nested(1)), cost(&nested(120)));
        assert!(deep < flat * 8, "{deep:?} for 120 levels, {flat:?} for one");
    }
}
