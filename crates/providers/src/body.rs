//! The body as text: what is JSON, what can be repaired, and single values read from it without building a
//! tree.
//!
//! Nothing here recurses, so depth costs no stack.

use std::borrow::Cow;
use std::fmt;

use serde::Deserializer;
use serde::de::{DeserializeSeed, Error, IgnoredAny, MapAccess, Visitor};
use serde_json::value::RawValue;

use crate::unusable::{Problem, Unusable};
use crate::value::kind;

/// The deepest nesting of a body: what `serde_json` and most other parsers stop at.
pub(crate) const DEPTH_LIMIT: usize = 128;

/// A body that is one JSON object.
#[derive(Debug)]
pub(crate) struct Json<'a> {
    /// Strict JSON: the body itself, or the body without comments and trailing commas.
    pub text: Cow<'a, str>,
    /// The body itself is not strict JSON.
    pub repaired: bool,
}

/// The body as UTF-8 text.
pub(crate) fn text(body: &[u8]) -> Result<&str, Unusable> {
    if body.is_empty() {
        return Err(Problem::Empty.into());
    }
    std::str::from_utf8(body).map_err(|error| Problem::NotUtf8 { offset: error.valid_up_to() }.into())
}

/// Reads a body as a JSON object, strictly if it can be, leniently otherwise.
pub(crate) fn json(body: &[u8]) -> Result<Json<'_>, Unusable> {
    let text = text(body)?;
    let json = match strict(text) {
        Ok(()) => Json { text: Cow::Borrowed(text), repaired: false },
        Err(error) => {
            let repaired = repair(text).ok_or_else(|| Unusable::from(&error))?;
            // Repairing keeps every line and column, so this error is at its place in the body as received.
            strict(&repaired).map_err(|error| Unusable::from(&error))?;
            Json { text: Cow::Owned(repaired), repaired: true }
        }
    };
    if depth(&json.text) > DEPTH_LIMIT {
        return Err(Problem::TooDeep.into());
    }
    match kind(&json.text) {
        "an object" => Ok(json),
        got => Err(Problem::NotAnObject { got }.into()),
    }
}

/// The text with comments and trailing commas replaced by spaces; `None` if it holds a broken comment.
pub(crate) fn repair(text: &str) -> Option<String> {
    let mut bytes = text.as_bytes().to_vec();
    json_strip_comments::strip_slice(&mut bytes).ok()?;
    String::from_utf8(bytes).ok()
}

fn strict(text: &str) -> Result<(), serde_json::Error> {
    serde_json::from_str::<&RawValue>(text).map(|_| ())
}

/// How deep the objects and arrays of a JSON text are nested.
fn depth(json: &str) -> usize {
    let (mut depth, mut deepest) = (0_usize, 0);
    let mut in_string = false;
    let mut bytes = json.bytes();
    while let Some(byte) = bytes.next() {
        match byte {
            b'"' => in_string = !in_string,
            b'\\' if in_string => drop(bytes.next()),
            b'{' | b'[' if !in_string => {
                depth += 1;
                deepest = deepest.max(depth);
            }
            b'}' | b']' if !in_string => depth = depth.saturating_sub(1),
            _ => {}
        }
    }
    deepest
}

/// The values of an object's fields, found by name.
pub(crate) struct Fields<'a> {
    /// In the order of the names asked for. `null` is the same as absent; of a name that is there twice, the
    /// first.
    pub values: Vec<Option<&'a str>>,
    /// The index of the first name found twice: nobody can say which of its values is meant.
    pub duplicate: Option<usize>,
}

/// The JSON texts of an object's fields with the given names; all absent if the text is no object.
pub(crate) fn fields<'a>(json: &'a str, names: &[&str]) -> Fields<'a> {
    let mut search = Search { names, seen: vec![None; names.len()], duplicate: None };
    if kind(json) == "an object" {
        // The text is JSON already: only a name that is no Unicode text (a lone surrogate) fails here, and
        // the fields before it stand.
        let _ = serde_json::Deserializer::from_str(json).deserialize_map(&mut search);
    }
    Fields {
        values: search.seen.into_iter().map(|value| value.filter(|json| *json != "null")).collect(),
        duplicate: search.duplicate,
    }
}

/// The JSON text that the tokens of a JSON pointer (RFC 6901) lead to; of a name that is there twice, the
/// first.
pub(crate) fn at<'a>(json: &'a str, tokens: &[String]) -> Option<&'a str> {
    tokens.iter().try_fold(json, |json, token| match kind(json) {
        "an object" => fields(json, &[token]).values[0],
        "an array" => {
            let items: Vec<&RawValue> = serde_json::from_str(json).ok()?;
            items.get(token.parse::<usize>().ok()?).map(|item| item.get())
        }
        _ => None,
    })
}

/// Visits one object and keeps the text of the values looked for.
struct Search<'n, 'a> {
    names: &'n [&'n str],
    seen: Vec<Option<&'a str>>,
    duplicate: Option<usize>,
}

impl<'a> Visitor<'a> for &mut Search<'_, 'a> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'a>>(self, mut map: A) -> Result<(), A::Error> {
        while let Some(index) = map.next_key_seed(Position(self.names))? {
            let Some(index) = index else {
                map.next_value::<IgnoredAny>()?;
                continue;
            };
            let value = map.next_value::<&RawValue>()?.get();
            if self.seen[index].is_none() {
                self.seen[index] = Some(value);
            } else {
                self.duplicate.get_or_insert(index);
            }
        }
        Ok(())
    }
}

/// Reads a key as its position among the names looked for.
struct Position<'n>(&'n [&'n str]);

impl<'de> DeserializeSeed<'de> for Position<'_> {
    type Value = Option<usize>;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Self::Value, D::Error> {
        deserializer.deserialize_str(self)
    }
}

impl Visitor<'_> for Position<'_> {
    type Value = Option<usize>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a name")
    }

    fn visit_str<E: Error>(self, key: &str) -> Result<Self::Value, E> {
        Ok(self.0.iter().position(|name| *name == key))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn strict_json_is_untouched_and_the_rest_is_repaired_or_refused_with_its_place() {
        let check = |body: &str, expect: Result<bool, &str>| {
            let got = json(body.as_bytes()).map(|json| json.repaired).map_err(|error| error.to_string());
            match expect {
                Ok(repaired) => assert_eq!(got, Ok(repaired), "{body}"),
                Err(text) => {
                    assert!(got.as_ref().is_err_and(|error| error.contains(text)), "{body}: {got:?}")
                }
            }
        };
        check(r#"{"a": "// no comment"}"#, Ok(false));
        check(" \n{}\n", Ok(false));
        check(r#"{"a": 1,}"#, Ok(true));
        check("{\"a\": 1 // don\"t\n}", Ok(true));
        check("{\"a\": [1, /* two */ 2, ],\n}", Ok(true));
        check("{\"a\": 1, // one\n\"b\": }", Err("line 2, column 6"));
        check(r#"{"a": 1,,}"#, Err("line 1, column 9"));
        check(r#"{"a": 1"#, Err("line 1, column 7"));
        check("{'a': 1}", Err("line 1, column 2"));
        check("not json", Err("line 1, column 2"));
        check(r#"{"a": 1} {"b": 2}"#, Err("line 1, column 10"));
        check(r#"{"a": /"#, Err("line 1, column 7"));
        check("[]", Err("expected an object, got an array"));
        check("7", Err("expected an object, got a number"));
        check("\"x\"", Err("expected an object, got a string"));
        check("", Err("the body is empty"));
        check("   ", Err("line 1, column 3"));
    }

    #[test]
    fn the_place_of_a_byte_that_is_not_utf_8_is_named() {
        let error = json(b"{\"a\": \"\xff\"}").unwrap_err().to_string();
        assert!(error.contains("byte 7"), "{error}");
    }

    #[test]
    fn nesting_is_limited_outside_of_strings_and_costs_no_stack() {
        let nested =
            |levels: usize| format!(r#"{{"a": {}{}}}"#, "[".repeat(levels - 1), "]".repeat(levels - 1));
        assert!(json(nested(DEPTH_LIMIT).as_bytes()).is_ok());
        assert!(json(format!(r#"{{"a": "\"{}"}}"#, "[".repeat(500)).as_bytes()).is_ok());
        for levels in [DEPTH_LIMIT + 1, 10_000, 400_000] {
            let error = json(nested(levels).as_bytes()).unwrap_err().to_string();
            assert!(error.contains("deeper than 128 levels"), "{error}");
        }
        assert!(json("[".repeat(10_000).as_bytes()).is_err());
        assert!(json(r#"{"a":"#.repeat(100_000).as_bytes()).is_err());
    }

    #[test]
    fn fields_are_found_by_name_and_duplicates_reported() {
        let check = |json: &str, expect: [Option<&str>; 2], duplicate: Option<usize>| {
            let found = fields(json, &["a", "b"]);
            assert_eq!((found.values.as_slice(), found.duplicate), (expect.as_slice(), duplicate), "{json}");
        };
        check(r#"{"x": {"a": 9}, "b": 460.20, "a": "\u0031"}"#, [Some(r#""\u0031""#), Some("460.20")], None);
        check(r#"{"a": null}"#, [None, None], None);
        check(r#"{"\u0061": 1}"#, [Some("1"), None], None);
        check(r#"{"a": 1, "b": 2, "b": 3}"#, [Some("1"), Some("2")], Some(1));
        check(r#"{"a": null, "a": 3}"#, [None, None], Some(0));
        check(r#"["a"]"#, [None, None], None);
    }

    #[test]
    fn a_pointer_leads_through_objects_and_arrays() {
        let body = r#"{"pix": [{"endToEndId": "E1"}, {"endToEndId": "E2"}], "a/b": {"": 1}}"#;
        let check = |tokens: &[&str], expect: Option<&str>| {
            let tokens: Vec<String> = tokens.iter().map(|token| (*token).to_owned()).collect();
            assert_eq!(at(body, &tokens), expect);
        };
        check(&["pix", "1", "endToEndId"], Some(r#""E2""#));
        check(&["a/b", ""], Some("1"));
        check(&[], Some(body));
        check(&["pix", "2"], None);
        check(&["pix", "0", "endToEndId", "x"], None);
    }
}
