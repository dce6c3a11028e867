//! One pass over a JSON text: whether it is strict JSON (RFC 8259) and an object, and where its fields are. Builds no
//! tree, and does not recurse.
//!
//! Accepts or rejects without a reason; `serde_json` gives the reason. Whatever is accepted here, `serde_json` accepts.

use std::borrow::Cow;

/// The deepest nesting of a body: what `serde_json` and most other parsers stop at.
pub(crate) const DEPTH_LIMIT: usize = 128;

/// From how many bytes on a text is expected to have many fields.
const LONG_BYTES: usize = 1_024;

/// An object that is strict JSON.
#[derive(Debug)]
pub(crate) struct Object<'a> {
    /// Name and JSON text of each field, in the object's order.
    pub fields: Vec<(Cow<'a, str>, &'a str)>,
    /// A string has an escape `\u`, which may be half of a surrogate pair.
    pub has_unicode_escapes: bool,
}

/// The object that is the whole text; `None` where it is none, is nested deeper than [`DEPTH_LIMIT`], or has a name that
/// is no Unicode text.
pub(crate) fn object(text: &str) -> Option<Object<'_>> {
    let mut scanner = Scanner::new(text);
    // Room for those of a short text is among what the allocator has at hand.
    let mut fields = Vec::with_capacity(if text.len() < LONG_BYTES { 24 } else { 64 });
    scanner.members(|name, value| {
        fields.push((name, value));
        Some(true)
    })?;
    scanner.space();
    let is_whole = scanner.at == text.len();
    is_whole.then_some(Object { fields, has_unicode_escapes: scanner.has_unicode_escapes })
}

/// The JSON texts of the first fields with these names in a text that is JSON, which is read as far as it takes; `null` is
/// the same as absent. All are absent where the text is no object.
pub(crate) fn first<'a, const N: usize>(json: &'a str, names: [&str; N]) -> [Option<&'a str>; N] {
    let mut found = [None; N];
    // Ends early once all are found, and where the text is no object.
    let _ = Scanner::new(json).members(|name, value| {
        if let Some(at) = names.iter().position(|wanted| *wanted == name) {
            found[at].get_or_insert(value);
        }
        Some(found.iter().any(Option::is_none))
    });
    found.map(|value| value.filter(|json| *json != "null"))
}

/// Whether a field of this name is in an object more than once: nobody can say which of its values is meant.
pub(crate) fn is_repeated(json: &str, name: &str) -> bool {
    let mut count = 0;
    // Ends early where the text is no object.
    let _ = Scanner::new(json).members(|found, _| {
        count += usize::from(found == name);
        Some(true)
    });
    count > 1
}

/// The text of a JSON string; `None` for every other JSON text, and for a string that is no Unicode text.
pub(crate) fn string(json: &str) -> Option<Cow<'_, str>> {
    match json.strip_prefix('"').and_then(|json| json.strip_suffix('"')) {
        Some(text) if plain(text.as_bytes()) == text.len() => Some(Cow::Borrowed(text)),
        Some(_) | None => serde_json::from_str(json).ok().map(Cow::Owned),
    }
}

/// How many bytes at the beginning stand in a string as they are: no quote, no backslash, no control character.
pub(crate) fn plain(bytes: &[u8]) -> usize {
    const ONES: u64 = u64::MAX / 255;
    // The high bit of the first byte that is below, and of none before it.
    let below = |word: u64, limit: u8| word.wrapping_sub(ONES * u64::from(limit)) & !word & (ONES << 7);
    let mut at = 0;
    while let Some(eight) = bytes.get(at..).and_then(<[u8]>::first_chunk) {
        let word = u64::from_le_bytes(*eight);
        let is = |byte: u8| below(word ^ (ONES * u64::from(byte)), 1);
        let ends = below(word, b' ') | is(b'"') | is(b'\\');
        if ends != 0 {
            return at + (ends.trailing_zeros() / 8) as usize;
        }
        at += 8;
    }
    let is_plain = |byte: &u8| *byte >= b' ' && !matches!(byte, b'"' | b'\\');
    at + bytes[at..].iter().take_while(|byte| is_plain(byte)).count()
}

struct Scanner<'a> {
    text: &'a str,
    /// How far it has been read.
    at: usize,
    /// Whether the last string has an escape.
    is_escaped: bool,
    has_unicode_escapes: bool,
}

/// Each method consumes the token that it is named after, or returns `None`.
impl<'a> Scanner<'a> {
    fn new(text: &'a str) -> Self {
        Self { text, at: 0, is_escaped: false, has_unicode_escapes: false }
    }

    fn peek(&self) -> Option<u8> {
        self.text.as_bytes().get(self.at).copied()
    }

    fn byte(&mut self) -> Option<u8> {
        let byte = self.peek()?;
        self.at += 1;
        Some(byte)
    }

    fn expect(&mut self, byte: u8) -> Option<()> {
        (self.byte()? == byte).then_some(())
    }

    /// Takes the byte if it is this one.
    fn is_next(&mut self, byte: u8) -> bool {
        let is_next = self.peek() == Some(byte);
        self.at += usize::from(is_next);
        is_next
    }

    fn space(&mut self) {
        while let Some(b' ' | b'\t' | b'\n' | b'\r') = self.peek() {
            self.at += 1;
        }
    }

    /// The members of the object that begins here: `each` takes the name and the text of the value, and says whether to go on.
    fn members(&mut self, mut each: impl FnMut(Cow<'a, str>, &'a str) -> Option<bool>) -> Option<()> {
        self.space();
        self.expect(b'{')?;
        self.space();
        if self.is_next(b'}') {
            return Some(());
        }
        loop {
            let begin = self.at;
            let end = self.name()?;
            let name = match self.is_escaped {
                true => string(&self.text[begin..end])?,
                false => Cow::Borrowed(&self.text[begin + 1..end - 1]),
            };
            let begin = self.at;
            self.value()?;
            if !each(name, &self.text[begin..self.at])? {
                return Some(());
            }
            self.space();
            match self.byte()? {
                b',' => self.space(),
                b'}' => return Some(()),
                _ => return None,
            }
        }
    }

    /// A name, and everything up to its value. Gives where the name ends.
    fn name(&mut self) -> Option<usize> {
        self.expect(b'"')?;
        self.string()?;
        let end = self.at;
        self.space();
        self.expect(b':')?;
        self.space();
        Some(end)
    }

    /// The value that begins here, in an object.
    fn value(&mut self) -> Option<()> {
        // The containers around the place: of each, the innermost lowest, whether it is an object.
        let (mut depth, mut objects) = (0, 0_u128);
        loop {
            match self.byte()? {
                b'"' => self.string()?,
                open @ (b'{' | b'[') => {
                    let is_object = open == b'{';
                    self.space();
                    if !self.is_next(if is_object { b'}' } else { b']' }) {
                        depth += 1;
                        objects = objects << 1 | u128::from(is_object);
                        // With the object around the value.
                        if depth >= DEPTH_LIMIT {
                            return None;
                        }
                        if is_object {
                            self.name()?;
                        }
                        continue;
                    }
                    if depth + 1 >= DEPTH_LIMIT {
                        return None;
                    }
                }
                b't' => self.rest(b"rue")?,
                b'f' => self.rest(b"alse")?,
                b'n' => self.rest(b"ull")?,
                first @ (b'-' | b'0'..=b'9') => self.number(first)?,
                _ => return None,
            }
            loop {
                if depth == 0 {
                    return Some(());
                }
                let is_object = objects & 1 == 1;
                self.space();
                match self.byte()? {
                    b',' => {
                        self.space();
                        if is_object {
                            self.name()?;
                        }
                        break;
                    }
                    b'}' if is_object => {}
                    b']' if !is_object => {}
                    _ => return None,
                }
                depth -= 1;
                objects >>= 1;
            }
        }
    }

    /// What follows the first letter of a literal.
    fn rest(&mut self, letters: &[u8]) -> Option<()> {
        letters.iter().try_for_each(|letter| self.expect(*letter))
    }

    /// What follows the opening quote of a string, with the closing one.
    fn string(&mut self) -> Option<()> {
        self.is_escaped = false;
        loop {
            self.at += plain(&self.text.as_bytes()[self.at..]);
            match self.byte()? {
                b'"' => return Some(()),
                b'\\' => {
                    self.is_escaped = true;
                    match self.byte()? {
                        b'"' | b'\\' | b'/' | b'b' | b'f' | b'n' | b'r' | b't' => {}
                        b'u' => {
                            self.has_unicode_escapes = true;
                            for _ in 0..4 {
                                self.byte()?.is_ascii_hexdigit().then_some(())?;
                            }
                        }
                        _ => return None,
                    }
                }
                _ => return None,
            }
        }
    }

    /// What follows the first byte of a number.
    fn number(&mut self, first: u8) -> Option<()> {
        let first = if first == b'-' { self.byte()? } else { first };
        match first {
            b'0' => {}
            b'1'..=b'9' => self.digits(),
            _ => return None,
        }
        if self.is_next(b'.') {
            self.byte()?.is_ascii_digit().then_some(())?;
            self.digits();
        }
        if let Some(b'e' | b'E') = self.peek() {
            self.at += 1;
            if let Some(b'+' | b'-') = self.peek() {
                self.at += 1;
            }
            self.byte()?.is_ascii_digit().then_some(())?;
            self.digits();
        }
        Some(())
    }

    fn digits(&mut self) {
        while let Some(b'0'..=b'9') = self.peek() {
            self.at += 1;
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::value::RawValue;

    use super::*;
    use crate::Provider;

    type Fields = Vec<(String, String)>;

    /// What `serde_json` says of a text.
    fn by_serde(text: &str) -> Option<Fields> {
        struct Visitor;
        impl<'de> serde::de::Visitor<'de> for Visitor {
            type Value = Fields;
            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("an object")
            }
            fn visit_map<A: serde::de::MapAccess<'de>>(self, mut map: A) -> Result<Fields, A::Error> {
                let mut fields = Vec::new();
                while let Some((name, value)) = map.next_entry::<String, &RawValue>()? {
                    fields.push((name, value.get().to_owned()));
                }
                Ok(fields)
            }
        }
        let mut deserializer = serde_json::Deserializer::from_str(text);
        let fields = serde::Deserializer::deserialize_map(&mut deserializer, Visitor).ok()?;
        deserializer.end().ok()?;
        Some(fields)
    }

    fn by_scan(text: &str) -> Option<Fields> {
        let fields = object(text)?.fields;
        Some(fields.into_iter().map(|(name, value)| (name.into_owned(), value.to_owned())).collect())
    }

    #[test]
    fn it_says_of_every_text_what_serde_json_says() {
        for text in [
            "{}",
            " {\t}\r\n",
            r#"{"a": -0, "b": 0.50, "c": 1e5, "d": 1E-05, "e": -12.5e+3, "": [[], {}, [{}]]}"#,
            r#"{"a": 01}"#,
            r#"{"a": 1.}"#,
            r#"{"a": .5}"#,
            r#"{"a": 1e}"#,
            r#"{"a": -}"#,
            r#"{"a": +1}"#,
            r#"{"a": tru}"#,
            r#"{"a": "\q"}"#,
            r#"{"a": "\u00g0"}"#,
            r#"{"a\u00e7\"": "\ud83d \/", "a": "ç"}"#,
            r#"{"\ud83d": 1}"#,
            "{\"a\": \"\u{1f}\"}",
            "{\"a\": \"\u{7f}\"}",
            r#"{"a": [1, ]}"#,
            r#"{"a": [1}"#,
            r#"{"a": {"b": 1]}"#,
            r#"{"a": 1,}"#,
            r#"{"a": 1} x"#,
            r#"{"a" 1}"#,
            r#"{a: 1}"#,
            "{",
            "[]",
            "7",
            "",
        ] {
            assert_eq!(by_scan(text), by_serde(text), "{text}");
        }
    }

    /// Every documented body, and each with one byte missing or another in its place.
    #[test]
    fn it_says_of_a_body_with_one_mistake_what_serde_json_says() {
        let examples = Provider::builtin()
            .into_iter()
            .flat_map(|provider| provider.topics())
            .filter_map(|topic| topic.example);
        let mut checked = 0;
        for body in examples.filter(|body| body.is_ascii()) {
            assert_eq!(by_scan(body), by_serde(body), "{body}");
            for at in 0..body.len() {
                let (before, after) = (&body[..at], &body[at + 1..]);
                for other in ["", "\"", "\\", "{", "]", ",", ":", "0", "e", "\n", "\u{1}", "u"] {
                    let text = [before, other, after].concat();
                    assert_eq!(by_scan(&text), by_serde(&text), "{text}");
                    checked += 1;
                }
            }
        }
        assert!(checked > 10_000, "{checked}");
    }

    #[test]
    fn a_byte_that_ends_the_plain_ones_is_found_wherever_it_is() {
        for end in ["\"", "\\", "\u{0}", "\u{1f}", "\n", ""] {
            for at in 0..20 {
                let before: String = "ç! #\u{7f}[]~ab".chars().cycle().take(at).collect();
                // What follows is no reason to stop earlier.
                let text = format!("{before}{end}\"\\\u{1} x");
                let expect = text.bytes().position(|byte| byte < b' ' || byte == b'"' || byte == b'\\');
                assert_eq!(Some(plain(text.as_bytes())), expect, "{text:?}");
            }
        }
        assert_eq!(plain("no end at all".as_bytes()), 13);
    }

    #[test]
    fn it_stops_at_the_depth_that_is_allowed() {
        let nested = |levels: usize, open: &str, close: &str| {
            format!(r#"{{"a": {}1{}}}"#, open.repeat(levels - 1), close.repeat(levels - 1))
        };
        for (open, close) in [("[", "]"), (r#"{"b":"#, "}")] {
            assert!(object(&nested(DEPTH_LIMIT, open, close)).is_some());
            assert!(object(&nested(DEPTH_LIMIT + 1, open, close)).is_none());
        }
        let empty = |levels: usize| nested(levels, "[", "]").replace('1', "");
        assert!(object(&empty(DEPTH_LIMIT)).is_some() && object(&empty(DEPTH_LIMIT + 1)).is_none());
    }

    #[test]
    fn the_first_fields_are_found_by_name() {
        let check = |json: &str, expect: [Option<&str>; 2]| {
            assert_eq!(first(json, ["a", "b"]), expect, "{json}");
        };
        check(r#"{"x": {"a": 9}, "b": 460.20, "a": "\u0031"}"#, [Some(r#""\u0031""#), Some("460.20")]);
        check(r#"{"a": null, "a": 3}"#, [None, None]);
        check(r#"{"\u0061": 1}"#, [Some("1"), None]);
        check(r#"{"a": 1, "b": 2, "b": 3}"#, [Some("1"), Some("2")]);
        check(r#"["a"]"#, [None, None]);
        check("null", [None, None]);
    }

    #[test]
    fn a_name_that_is_there_twice_is_noticed() {
        let check = |json: &str, expect: bool| assert_eq!(is_repeated(json, "b"), expect, "{json}");
        check(r#"{"a": 1, "b": 2, "b": 3}"#, true);
        check(r#"{"a": 1, "b": null, "\u0062": 3}"#, true);
        check(r#"{"b": {"b": 2}, "a": 1, "a": 1}"#, false);
        check(r#"["b", "b"]"#, false);
    }
}
