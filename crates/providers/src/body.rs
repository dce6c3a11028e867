//! The body as text: what is JSON, what can be repaired, and single values read from it without building a
//! tree.
//!
//! Nothing here recurses, so depth costs no stack.

use std::borrow::Cow;

use percent_encoding::percent_decode_str;
use serde_json::Value;
use serde_json::value::RawValue;

use crate::charset::{Decoded, decode, decode_bytes};
use crate::pointer::Pointer;
use crate::scan::{self, DEPTH_LIMIT, Object};
use crate::unusable::{Problem, Unusable};
use crate::xml;

/// A body that is one JSON object.
#[derive(Debug)]
pub(crate) struct Json<'a> {
    /// Strict JSON in which every string is Unicode text: the body itself, or the repaired body.
    pub text: Cow<'a, str>,
    /// The text is not the body itself.
    pub repaired: bool,
    /// The fields, if reading the body produced them.
    fields: Option<Vec<(Cow<'a, str>, &'a str)>>,
}

impl<'a> Json<'a> {
    /// A part of a body that was read, or what was made of one.
    pub(crate) fn part(text: impl Into<Cow<'a, str>>, repaired: bool) -> Self {
        Self { text: text.into(), repaired, fields: None }
    }

    /// The fields of the object, in order: name and JSON text.
    pub(crate) fn fields(&self) -> Cow<'_, [(Cow<'_, str>, &str)]> {
        match &self.fields {
            Some(fields) => Cow::Borrowed(fields),
            None => Cow::Owned(entries(&self.text)),
        }
    }

    /// The JSON text that the tokens of a JSON pointer lead to, see [`at`].
    pub(crate) fn at(&self, tokens: &[String]) -> Option<&str> {
        match (&self.fields, tokens) {
            (Some(fields), [first, rest @ ..]) => {
                let (_, json) = fields.iter().find(|(name, _)| name == first)?;
                if *json == "null" { None } else { at(json, rest) }
            }
            _ => at(&self.text, tokens),
        }
    }
}

/// A JSON text, and the body that it is a part of if the body holds several events.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Document<'a> {
    pub json: &'a Json<'a>,
    pub whole: Option<&'a Json<'a>>,
}

impl<'a> Document<'a> {
    pub(crate) fn new(json: &'a Json<'a>) -> Self {
        Self { json, whole: None }
    }

    /// The JSON text that a pointer leads to: in the part, else in the whole.
    pub(crate) fn at(&self, pointer: &Pointer) -> Option<&str> {
        let tokens = pointer.tokens();
        self.json.at(tokens).or_else(|| self.whole?.at(tokens))
    }

    /// Whether the field that a pointer leads to is there more than once.
    pub(crate) fn is_repeated(&self, pointer: &Pointer) -> bool {
        let [parents @ .., last] = pointer.tokens() else { return false };
        let in_one = |json: &Json<'_>| json.at(parents).is_some_and(|parent| scan::is_repeated(parent, last));
        in_one(self.json) || self.whole.is_some_and(in_one)
    }
}

/// The body as text. `content_type` is the declared one.
pub(crate) fn text<'a>(body: &'a [u8], content_type: Option<&str>) -> Result<Decoded<'a>, Unusable> {
    if body.is_empty() {
        return Err(Problem::Empty.into());
    }
    decode(body, content_type).map_err(|not_text| Problem::NotUtf8 { offset: not_text.offset }.into())
}

/// Reads a body as a JSON object: strictly if possible, else leniently. `content_type` is the declared one.
pub(crate) fn json<'a>(body: &'a [u8], content_type: Option<&str>) -> Result<Json<'a>, Unusable> {
    let json = any(body, content_type)?;
    match &json.fields {
        Some(_) => Ok(json),
        None => match kind(&json.text) {
            "an object" => Ok(json),
            got => Err(Problem::NotAnObject { got }.into()),
        },
    }
}

/// Reads a body as any JSON value, like [`json`].
pub(crate) fn any<'a>(body: &'a [u8], content_type: Option<&str>) -> Result<Json<'a>, Unusable> {
    let Decoded { mut text, mut repaired } = text(body, content_type)?;
    // Most bodies are strict JSON and an object: finding the fields is all that it takes to know.
    if let Cow::Borrowed(text) = text
        && let Some(Object { fields, has_unicode_escapes }) = scan::object(text)
    {
        return Ok(match has_unicode_escapes.then(|| replace_lone_surrogates(text)).flatten() {
            Some(replaced) => Json { text: Cow::Owned(replaced), repaired: true, fields: None },
            None => Json { text: Cow::Borrowed(text), repaired, fields: Some(fields) },
        });
    }
    if let Err(error) = strict(&text) {
        text = Cow::Owned(repair(&text).map_err(|worse| Unusable::from(&worse.unwrap_or(error)))?);
        repaired = true;
    }
    let Survey { depth, has_unicode_escapes } = survey(&text);
    if depth > DEPTH_LIMIT {
        return Err(Problem::TooDeep.into());
    }
    if has_unicode_escapes && let Some(replaced) = replace_lone_surrogates(&text) {
        (text, repaired) = (Cow::Owned(replaced), true);
    }
    Ok(Json { text, repaired, fields: None })
}

/// The text without comments and trailing commas and, if that is not enough, with control characters in strings
/// escaped. The position of an error refers to the original text; `None` for a broken comment.
fn repair(text: &str) -> Result<String, Option<serde_json::Error>> {
    let mut bytes = text.as_bytes().to_vec();
    json_strip_comments::strip_slice(&mut bytes).map_err(|_| None)?;
    let stripped = String::from_utf8(bytes).map_err(|_| None)?;
    let Err(error) = strict(&stripped) else { return Ok(stripped) };
    let escaped = escape_controls(&stripped);
    match strict(&escaped) {
        Ok(()) => Ok(escaped),
        Err(_) => Err(Some(error)),
    }
}

/// The text with every control character in a string escaped, such as typed line breaks and tabs.
fn escape_controls(json: &str) -> String {
    let mut escaped = String::with_capacity(json.len() + 16);
    let mut in_string = false;
    let mut characters = json.chars();
    while let Some(c) = characters.next() {
        match c {
            c if in_string && c < ' ' => escaped.push_str(&format!("\\u{:04x}", u32::from(c))),
            '\\' if in_string => {
                escaped.push(c);
                escaped.extend(characters.next());
            }
            c => {
                in_string ^= c == '"';
                escaped.push(c);
            }
        }
    }
    escaped
}

fn strict(text: &str) -> Result<(), serde_json::Error> {
    serde_json::from_str::<&RawValue>(text).map(|_| ())
}

/// What a single pass over the bytes of a JSON text finds out.
struct Survey {
    /// The maximum nesting depth of objects and arrays.
    depth: usize,
    /// A string has an escape `\u`.
    has_unicode_escapes: bool,
}

fn survey(json: &str) -> Survey {
    let mut survey = Survey { depth: 0, has_unicode_escapes: false };
    let (mut depth, mut in_string) = (0_usize, false);
    let mut bytes = json.bytes();
    while let Some(byte) = bytes.next() {
        match byte {
            b'"' => in_string = !in_string,
            b'\\' if in_string => survey.has_unicode_escapes |= bytes.next() == Some(b'u'),
            b'{' | b'[' if !in_string => {
                depth += 1;
                survey.depth = survey.depth.max(depth);
            }
            b'}' | b']' if !in_string => depth = depth.saturating_sub(1),
            _ => {}
        }
    }
    survey
}

/// A JSON text with U+FFFD for each escaped lone surrogate; `None` if there is none. A string with one is valid JSON
/// (RFC 8259, section 8.2) and not Unicode text.
fn replace_lone_surrogates(json: &str) -> Option<String> {
    let bytes = json.as_bytes();
    let unit = |at: usize| {
        let digits = bytes.get(at..at + 6)?.strip_prefix(b"\\u")?;
        u16::from_str_radix(std::str::from_utf8(digits).ok()?, 16).ok()
    };
    let mut replaced: Option<Vec<u8>> = None;
    let mut at = 0;
    while let Some(found) = json[at..].find('\\') {
        at += found;
        at += match (unit(at), unit(at + 6)) {
            (Some(0xd800..=0xdbff), Some(0xdc00..=0xdfff)) => 12,
            (Some(0xd800..=0xdfff), _) => {
                let copy = replaced.get_or_insert_with(|| bytes.to_vec());
                copy[at + 2..at + 6].copy_from_slice(b"fffd");
                6
            }
            _ => 2,
        };
    }
    replaced.map(|bytes| String::from_utf8(bytes).expect("hexadecimal digits took the place of others"))
}

/// The kind of a JSON value, with its article.
pub(crate) fn kind(json: &str) -> &'static str {
    match json.bytes().find(|byte| !byte.is_ascii_whitespace()) {
        Some(b'{') => "an object",
        Some(b'[') => "an array",
        Some(b'"') => "a string",
        Some(b't' | b'f') => "a boolean",
        Some(b'n') => "null",
        _ => "a number",
    }
}

/// The JSON text that the tokens of a JSON pointer (RFC 6901) lead to; of a name that is there twice, the
/// first.
pub(crate) fn at<'a>(json: &'a str, tokens: &[String]) -> Option<&'a str> {
    tokens.iter().try_fold(json, |json, token| match kind(json) {
        "an object" => scan::first(json, [token])[0],
        "an array" => items(json)?.get(token.parse::<usize>().ok()?).copied(),
        _ => None,
    })
}

/// Every field of a JSON object, in order: name and JSON text. Empty if the text is not an object.
pub(crate) fn entries(json: &str) -> Vec<(Cow<'_, str>, &str)> {
    scan::object(json).map(|object| object.fields).unwrap_or_default()
}

/// The JSON texts of the items of an array; `None` if the text is not an array.
pub(crate) fn items(json: &str) -> Option<Vec<&str>> {
    let items: Vec<&RawValue> = serde_json::from_str(json).ok()?;
    Some(items.into_iter().map(RawValue::get).collect())
}

/// The JSON texts of the values of an object whose names are all numbers, as PHP writes an array with a gap; `None` if a name is
/// none.
pub(crate) fn numbered(json: &str) -> Option<Vec<&str>> {
    // A longer number, such as a CPF, is a name.
    let is_number =
        |name: &str| matches!(name.len(), 1..=6) && name.bytes().all(|byte| byte.is_ascii_digit());
    let fields = entries(json);
    let is_list = fields.iter().all(|(name, _)| is_number(name));
    is_list.then(|| fields.into_iter().map(|(_, item)| item).collect())
}

/// The fields of a form (`application/x-www-form-urlencoded`), and whether one of them is not UTF-8. Percent-encoded
/// bytes are in the form's own character set.
pub(crate) fn form(
    text: &str,
    content_type: Option<&str>,
) -> Result<(Vec<(String, String)>, bool), Unusable> {
    let mut repaired = false;
    let mut decoded = |part: &str| {
        let spaced = part.replace('+', " ");
        let bytes: Vec<u8> = percent_decode_str(&spaced).collect();
        let decoded = decode_bytes(&bytes, content_type)
            .map_err(|not_text| Unusable::from(Problem::NotUtf8 { offset: not_text.offset }))?;
        repaired |= decoded.repaired;
        Ok::<_, Unusable>(decoded.text.into_owned())
    };
    let pairs = text.split('&').filter(|pair| !pair.is_empty());
    let fields = pairs.map(|pair| {
        let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
        Ok((decoded(name)?, decoded(value)?))
    });
    let fields = fields.collect::<Result<Vec<_>, Unusable>>()?;
    Ok((fields, repaired))
}

/// The value of a JSON text, if it is one.
fn parsed(text: &str) -> Option<Value> {
    let within = || {
        strict(text).ok()?;
        serde_json::from_str(&within_doubles(text)).ok()
    };
    serde_json::from_str(text).ok().or_else(within)
}

/// A JSON text with the greatest double, or the least, for each number beyond it: such a number stays greater, or less, than
/// what it is compared with.
fn within_doubles(json: &str) -> String {
    const GREATEST: &str = "1.7976931348623157e308";
    let (bytes, mut at) = (json.as_bytes(), 0);
    let mut within = String::with_capacity(json.len());
    while let Some(first) = bytes.get(at) {
        let rest = &bytes[at..];
        let length = match first {
            b'"' => string_length(rest),
            b'-' | b'0'..=b'9' => rest.iter().take_while(|byte| b"+-.0123456789Ee".contains(byte)).count(),
            // Outside of strings JSON is ASCII.
            _ => 1,
        };
        let token = &json[at..at + length];
        match token.parse() {
            Ok(f64::INFINITY) => within.push_str(GREATEST),
            Ok(f64::NEG_INFINITY) => within.extend(["-", GREATEST]),
            _ => within.push_str(token),
        }
        at += length;
    }
    within
}

/// The length of the string that a JSON text begins with, quotes included.
fn string_length(json: &[u8]) -> usize {
    let mut at = 1;
    while at < json.len() && json[at] != b'"' {
        at += if json[at] == b'\\' { 2 } else { 1 };
    }
    at + 1
}

/// Whether a content type says XML (RFC 7303).
fn is_xml(content_type: &str) -> bool {
    let media_type = content_type.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
    matches!(media_type.as_str(), "application/xml" | "text/xml") || media_type.ends_with("+xml")
}

/// The value of any body, read as leniently as a payload is: JSON, the fields of a form as an object of strings, XML, or else
/// a string. Of fields with one name, the last counts. A number beyond the range of a double is the greatest or the least one.
pub fn body_value(body: &[u8], content_type: &str) -> Value {
    const FORM: &str = "application/x-www-form-urlencoded";
    let declared = Some(content_type);
    let value = if content_type.trim_start().to_ascii_lowercase().starts_with(FORM) {
        let fields = text(body, declared).and_then(|decoded| form(&decoded.text, declared));
        fields
            .ok()
            .map(|(fields, _)| fields.into_iter().map(|(name, text)| (name, Value::String(text))).collect())
    } else if is_xml(content_type) {
        text(body, declared).ok().and_then(|decoded| xml::value(&decoded.text).ok())
    } else {
        let as_it_is = std::str::from_utf8(body).ok().and_then(parsed);
        as_it_is.or_else(|| parsed(&json(body, declared).ok()?.text))
    };
    value.unwrap_or_else(|| match decode(body, declared) {
        Ok(decoded) => decoded.text.into(),
        Err(_) => String::from_utf8_lossy(body).into(),
    })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn any_body_has_a_value() {
        let check = |body: &[u8], content_type: &str, expect: Value| {
            assert_eq!(body_value(body, content_type), expect, "{}", String::from_utf8_lossy(body));
        };
        const FORM: &str = "application/x-www-form-urlencoded";
        check(br#"{"a": 1}"#, "application/json", json!({"a": 1}));
        check(b"[1]", "", json!([1]));
        check(b"{\"a\": 1, // one\n}", "application/json", json!({"a": 1}));
        check(b"{\"n\": \"Jo\xe3o\"}", "application/json", json!({"n": "João"}));
        check(b"a=1&n=Jo%C3%A3o", FORM, json!({"a": "1", "n": "João"}));
        check(b"not json", "text/plain", json!("not json"));
        check(b"%E3", "application/x-www-form-urlencoded; charset=big5", json!("%E3"));
        check(b"", "application/json", json!(""));
    }

    #[test]
    fn a_number_beyond_a_double_is_the_greatest_or_the_least() {
        let check = |body: &str, expect: Value| assert_eq!(body_value(body.as_bytes(), ""), expect, "{body}");
        check(
            r#"{"a": 1e400, "b": [-1E+400, 2], "c": 1e-400}"#,
            json!({"a": f64::MAX, "b": [f64::MIN, 2], "c": 0.0}),
        );
        check("[1e309]", json!([f64::MAX]));
        let text = r#"{"t": "é \"1e400\" \\", "n": -1e999, "i": 3}"#;
        check(text, json!({"t": "é \"1e400\" \\", "n": f64::MIN, "i": 3}));
        check("{\"n\": 1e400, // the total\n}", json!({"n": f64::MAX}));
        let digits = format!("[{}]", "9".repeat(400));
        check(&digits, json!([f64::MAX]));
        check("[1e400", json!("[1e400"));
    }

    #[test]
    fn strict_json_is_untouched_and_the_rest_is_repaired_or_refused_with_its_place() {
        let check = |body: &str, expect: Result<bool, &str>| {
            let got =
                json(body.as_bytes(), None).map(|json| json.repaired).map_err(|error| error.to_string());
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
    fn what_is_typed_into_a_string_and_half_a_surrogate_pair_are_read_as_text() {
        let check = |body: &str, expect: &str| {
            let json = json(body.as_bytes(), None).unwrap();
            let value: serde_json::Value = serde_json::from_str(&json.text).unwrap();
            assert_eq!(value.to_string(), expect, "{body}");
            assert_eq!(json.repaired, json.text != body, "{body}");
        };
        check("{\"a\": \"one\ntwo\tthree\r\"}", r#"{"a":"one\ntwo\tthree\r"}"#);
        check("{\"a\tb\": \"\u{1}\", // \"c\n}", r#"{"a\tb":"\u0001"}"#);
        check("{\"a\": \"\\\"\n\\\\\", \"b\": 1,}", r#"{"a":"\"\n\\","b":1}"#);
        check(r#"{"a": "\ud83d", "b\ude00": "\uD83Dx"}"#, "{\"a\":\"\u{fffd}\",\"b\u{fffd}\":\"\u{fffd}x\"}");
        check(
            r#"{"a": "\ud83d\ude00 \\ud83d", "b": "\ud83d\ud83d\ude00"}"#,
            "{\"a\":\"😀 \\\\ud83d\",\"b\":\"\u{fffd}😀\"}",
        );
        check(r#"{"a": "\u00e7\\\u0041"}"#, r#"{"a":"ç\\A"}"#);
        let error = json(b"{\"a\": \"x\ny\", \"b\": }", None).unwrap_err().to_string();
        assert!(error.contains("line 1, column 8") && error.contains("control character"), "{error}");
    }

    #[test]
    fn a_form_is_read_in_its_character_set() {
        let check = |form_text: &str, content_type: Option<&str>, expect: &[(&str, &str)], repaired: bool| {
            let (fields, is_repaired) = form(form_text, content_type).unwrap();
            let fields: Vec<_> = fields.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
            assert_eq!((fields.as_slice(), is_repaired), (expect, repaired), "{form_text}");
        };
        check("a=1&data%5Bid%5D=x+y&&b", None, &[("a", "1"), ("data[id]", "x y"), ("b", "")], false);
        check("n=Jo%C3%A3o", None, &[("n", "João")], false);
        check("n=Jo%E3o", None, &[("n", "João")], true);
        check("n=Jo%E3o", Some("x; charset=iso-8859-1"), &[("n", "João")], true);
        assert!(form("n=%E3", Some("x; charset=big5")).is_err());
    }

    #[test]
    fn the_place_of_a_byte_that_is_not_utf_8_is_named() {
        let error = json(b"{\"a\": \"\xff\"}", Some("text/plain; charset=big5")).unwrap_err().to_string();
        assert!(error.contains("byte 7"), "{error}");
    }

    #[test]
    fn nesting_is_limited_outside_of_strings_and_costs_no_stack() {
        let nested =
            |levels: usize| format!(r#"{{"a": {}{}}}"#, "[".repeat(levels - 1), "]".repeat(levels - 1));
        assert!(json(nested(DEPTH_LIMIT).as_bytes(), None).is_ok());
        assert!(json(format!(r#"{{"a": "\"{}"}}"#, "[".repeat(500)).as_bytes(), None).is_ok());
        for levels in [DEPTH_LIMIT + 1, 10_000, 400_000] {
            let error = json(nested(levels).as_bytes(), None).unwrap_err().to_string();
            assert!(error.contains("deeper than 128 levels"), "{error}");
        }
        assert!(json("[".repeat(10_000).as_bytes(), None).is_err());
        assert!(json(r#"{"a":"#.repeat(100_000).as_bytes(), None).is_err());
    }

    #[test]
    fn a_pointer_leads_through_objects_and_arrays() {
        let body = r#"{"pix": [{"endToEndId": "E1"}, {"endToEndId": "E2"}], "a/b": {"": 1}, "none": null}"#;
        let check = |tokens: &[&str], expect: Option<&str>| {
            let tokens: Vec<String> = tokens.iter().map(|token| (*token).to_owned()).collect();
            assert_eq!(at(body, &tokens), expect);
            // A repaired body has only its text.
            for body in [body, &format!("{body} // repaired")] {
                assert_eq!(json(body.as_bytes(), None).unwrap().at(&tokens).map(str::trim), expect);
            }
        };
        check(&["pix", "1", "endToEndId"], Some(r#""E2""#));
        check(&["a/b", ""], Some("1"));
        check(&[], Some(body));
        check(&["pix", "2"], None);
        check(&["none"], None);
        check(&["pix", "0", "endToEndId", "x"], None);
    }
}
