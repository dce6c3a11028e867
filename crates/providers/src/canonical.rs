//! A canonical spelling of JSON values, so that bodies can be compared by their content.
//!
//! Names are sorted, insignificant white space is dropped, strings are escaped in one way, and `1.0`, `1` and `10e-1`
//! are the same number. Numbers never pass through a binary float. The result is only for hashing; a text to keep comes
//! from [`compact`](crate::compact).

use std::cmp::Ordering;

use crate::scan::plain;

/// The canonical spelling of a JSON text that was parsed before. Recursion is as deep as the text is nested, bounded by
/// [`DEPTH_LIMIT`](crate::scan::DEPTH_LIMIT).
pub(crate) fn canonical(json: &str, differing: Differing) -> Vec<u8> {
    let mut writer = Writer {
        json: json.as_bytes(),
        differing,
        at: 0,
        out: Vec::with_capacity(json.len()),
        members: Vec::with_capacity(40),
        sorted: Vec::with_capacity(json.len()),
    };
    writer.value();
    writer.out
}

/// The fields of the root in which two bodies with the same content may differ.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Differing {
    /// Left out.
    pub(crate) disregarded: &'static [&'static str],
    /// Written under another name, the second.
    pub(crate) renamed: &'static [(&'static str, &'static str)],
}

impl Differing {
    fn disregards(self, name: &[u8]) -> bool {
        self.disregarded.iter().any(|field| field.as_bytes() == name)
    }

    fn new_name(self, name: &[u8]) -> Option<&'static str> {
        self.renamed.iter().find(|(old, _)| old.as_bytes() == name).map(|(_, new)| *new)
    }
}

struct Writer<'a> {
    json: &'a [u8],
    differing: Differing,
    /// The position of the reader.
    at: usize,
    out: Vec<u8>,
    /// Of the objects that are being written, the outermost first.
    members: Vec<Member>,
    /// The members of one object in their order.
    sorted: Vec<u8>,
}

/// Where a member begins in what is written, where its name ends, and where it ends.
#[derive(Clone, Copy)]
struct Member {
    /// The beginning of the name, as a number that compares as the name does: most names differ there.
    prefix: u64,
    begin: usize,
    name: usize,
    end: usize,
}

impl Member {
    fn new(out: &[u8], begin: usize, name: usize) -> Self {
        // Behind the quote. A name has no zeros.
        let text = &out[begin + 1..name];
        let prefix = text.first_chunk().copied().unwrap_or_else(|| {
            let mut eight = [0; 8];
            eight[..text.len()].copy_from_slice(text);
            eight
        });
        Self { prefix: u64::from_be_bytes(prefix), begin, name, end: out.len() }
    }

    fn compare(&self, other: &Self, out: &[u8]) -> Ordering {
        let name = |member: &Self| &out[member.begin..member.name];
        self.prefix.cmp(&other.prefix).then_with(|| name(self).cmp(name(other)))
    }
}

impl<'a> Writer<'a> {
    /// The next byte that is not white space; `None` at the end.
    fn peek(&mut self) -> Option<u8> {
        while let Some(byte) = self.json.get(self.at) {
            if !matches!(byte, b' ' | b'\t' | b'\n' | b'\r') {
                return Some(*byte);
            }
            self.at += 1;
        }
        None
    }

    /// Skips the next byte if it is this one.
    fn skip(&mut self, byte: u8) {
        if self.peek() == Some(byte) {
            self.at += 1;
        }
    }

    /// Takes the text up to that position.
    fn take(&mut self, end: usize) -> &'a [u8] {
        let taken = &self.json[self.at..end];
        self.at = end;
        taken
    }

    fn value(&mut self) {
        match self.peek() {
            Some(b'{') => self.object(),
            Some(b'[') => self.array(),
            Some(b'"') => self.string(),
            _ => self.scalar(),
        }
    }

    fn array(&mut self) {
        self.skip(b'[');
        self.out.push(b'[');
        while self.peek().is_some_and(|byte| byte != b']') {
            self.value();
            self.out.push(b',');
            self.skip(b',');
        }
        self.skip(b']');
        self.out.push(b']');
    }

    fn object(&mut self) {
        self.skip(b'{');
        self.out.push(b'{');
        let (first, start) = (self.members.len(), self.out.len());
        let is_root = start == 1 && self.differing != Differing::default();
        while self.peek().is_some_and(|byte| byte != b'}') {
            let begin = self.out.len();
            self.string();
            let is_disregarded = is_root && self.differs(begin);
            let name = self.out.len();
            self.skip(b':');
            self.value();
            self.out.push(b',');
            self.skip(b',');
            match is_disregarded {
                true => self.out.truncate(begin),
                false => self.members.push(Member::new(&self.out, begin, name)),
            }
        }
        self.skip(b'}');
        let members = &mut self.members[first..];
        if !members.is_sorted_by(|one, other| one.compare(other, &self.out).is_le()) {
            // Of a name that occurs twice, the first stays the first.
            members.sort_by(|one, other| one.compare(other, &self.out));
            self.sorted.clear();
            for member in members {
                self.sorted.extend_from_slice(&self.out[member.begin..member.end]);
            }
            self.out[start..].copy_from_slice(&self.sorted);
        }
        self.members.truncate(first);
        self.out.push(b'}');
    }

    /// Renames the field of the root whose name was written from `begin` on; true if it is to be left out.
    fn differs(&mut self, begin: usize) -> bool {
        let name = self.out[begin..].strip_prefix(b"\"").and_then(|name| name.strip_suffix(b"\""));
        let Some(name) = name else { return false };
        if let Some(new) = self.differing.new_name(name) {
            self.out.truncate(begin + 1);
            self.out.extend_from_slice(new.as_bytes());
            self.out.push(b'"');
            return false;
        }
        self.differing.disregards(name)
    }

    fn string(&mut self) {
        self.peek();
        let mut has_escapes = false;
        let mut end = self.at + 1;
        while end < self.json.len() {
            end += plain(&self.json[end..]);
            if self.json.get(end) != Some(&b'\\') {
                break;
            }
            has_escapes = true;
            end += 2;
        }
        let text = self.take((end + 1).min(self.json.len()));
        // A text that is no Unicode text (a lone surrogate) stays as it is.
        let plain = if has_escapes { serde_json::from_slice::<String>(text).ok() } else { None };
        match plain.and_then(|plain| serde_json::to_vec(&plain).ok()) {
            Some(plain) => self.out.extend_from_slice(&plain),
            None => self.out.extend_from_slice(text),
        }
    }

    /// A number, `true`, `false` or `null`.
    fn scalar(&mut self) {
        let is_end = |byte: &u8| matches!(byte, b',' | b']' | b'}' | b' ' | b'\t' | b'\n' | b'\r');
        let rest = &self.json[self.at..];
        let text = self.take(self.at + rest.iter().position(is_end).unwrap_or(rest.len()));
        let is_number = matches!(text.first(), Some(b'-' | b'0'..=b'9'));
        if !is_number || self.number(text).is_none() {
            self.out.extend_from_slice(text);
        }
    }

    /// A number as its significant digits, times a power of ten. Writes nothing where the exponent is beyond every number
    /// that anyone writes: `None`.
    fn number(&mut self, text: &[u8]) -> Option<()> {
        let (base, exponent) = split(text, |byte| matches!(byte, b'e' | b'E'));
        let unsigned = base.strip_prefix(b"-").unwrap_or(base);
        let (whole, fraction) = split(unsigned, |byte| *byte == b'.');
        let is_significant = |byte: &u8| *byte != b'0';
        let first = whole.iter().position(is_significant).unwrap_or(whole.len());
        let last = |digits: &[u8]| digits.iter().rposition(is_significant).map_or(0, |last| last + 1);
        let (mut whole, mut fraction) = (&whole[first..], fraction.unwrap_or_default());
        fraction = &fraction[..last(fraction)];
        if whole.is_empty() && fraction.is_empty() {
            self.out.extend_from_slice(b"0e0");
            return Some(());
        }
        let mut exponent: i64 = match exponent {
            Some(exponent) => std::str::from_utf8(exponent).ok()?.parse().ok()?,
            None => 0,
        };
        if fraction.is_empty() {
            let significant = &whole[..last(whole)];
            exponent = exponent.checked_add(i64::try_from(whole.len() - significant.len()).ok()?)?;
            whole = significant;
        } else {
            exponent = exponent.checked_sub(i64::try_from(fraction.len()).ok()?)?;
            if whole.is_empty() {
                fraction = &fraction[fraction.iter().position(is_significant).unwrap_or_default()..];
            }
        }
        if unsigned.len() < base.len() {
            self.out.push(b'-');
        }
        self.out.extend_from_slice(whole);
        self.out.extend_from_slice(fraction);
        self.out.push(b'e');
        match u8::try_from(exponent.unsigned_abs()) {
            // Most exponents have one digit.
            Ok(digit @ 0..=9) => {
                self.out.extend_from_slice(if exponent < 0 { b"-" } else { b"" });
                self.out.push(b'0' + digit);
            }
            _ => self.out.extend_from_slice(exponent.to_string().as_bytes()),
        }
        Some(())
    }
}

/// What is before and after the first such byte.
fn split(text: &[u8], is_separator: impl Fn(&u8) -> bool) -> (&[u8], Option<&[u8]>) {
    match text.iter().position(is_separator) {
        Some(at) => (&text[..at], Some(&text[at + 1..])),
        None => (text, None),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn canonical(json: &str) -> Vec<u8> {
        super::canonical(json, Differing::default())
    }

    #[test]
    fn a_value_written_otherwise_is_the_same_and_another_value_is_not() {
        let same = |texts: &[&str]| {
            for text in texts {
                assert_eq!(canonical(text), canonical(texts[0]), "{text}");
            }
        };
        let all = [
            r#"{"a": 1, "b": [true, null, "x"], "c": {"d": 120.5, "e": ""}}"#,
            r#"{"c":{"e":"","d":1.205e2},"b":[true,null,"\u0078"],"a":1.0}"#,
            "{\n\t\"a\" : 10E-1 ,\r\n \"b\" : [ true , null , \"x\" ] , \"c\" : { \"d\" : 120.50 , \"e\" : \"\" } }",
        ];
        same(&all);
        same(&["0", "-0", "0.00", "0e7", "-0E-3"]);
        same(&["100", "1e2", "1E+2", "100.0", "0.1e3"]);
        same(&["-0.5", "-5e-1", "-00.50"]);
        same(&[r#""é\/""#, r#""\u00e9/""#, r#""\u00E9\u002f""#]);
        same(&[r#"{"a": "\"}", "\\": 1}"#, r#"{"\u005c":1.0,"a":"\u0022}"}"#]);
        let different = [
            "1",
            "\"1\"",
            "1.1",
            "10",
            "-1",
            "[1]",
            "[1, 1]",
            "[11]",
            "[[1], 1]",
            "{}",
            "[]",
            "null",
            "\"null\"",
            r#"{"a": 1}"#,
            r#"{"a": 1, "a": 2}"#,
            r#"{"a": 2, "a": 1}"#,
            r#"{"a": {"b": 1}}"#,
            r#"{"a": "b", "c": 1}"#,
            r#"{"a": "b\",\"c", "d": 1}"#,
            r#""\ud83d""#,
            r#""\ud83e""#,
            "9007199254740993.01",
            "9007199254740993.02",
            "1e99999999999999999999",
            "2e99999999999999999999",
        ];
        for (index, one) in different.iter().enumerate() {
            for other in &different[..index] {
                assert_ne!(canonical(one), canonical(other), "{one} {other}");
            }
        }
    }

    /// An ingress of another release may receive the duplicate, so the spelling never changes.
    #[test]
    fn the_spelling_is_the_same_in_every_release() {
        let check = |json: &str, expect: &str| assert_eq!(canonical(json), expect.as_bytes());
        check(
            r#"{"b": [100, -0.5e2, 1.50, 0.050], "a": "\u0078\n"}"#,
            r#"{"a""x\n","b"[1e2,-5e1,15e-1,5e-2,],}"#,
        );
        check("[-0, 0.00e5, 10.50, 7e-0, 1E+2, true, null]", "[0e0,0e0,105e-1,7e0,1e2,true,null,]");
        check("1e99999999999999999999", "1e99999999999999999999");
    }

    #[test]
    fn a_deep_text_and_a_long_one_are_gone_through_once() {
        let deep = |inner: &str| format!("{}{inner}{}", r#"{"b":"#.repeat(120), r#","a":1}"#.repeat(120));
        assert_eq!(canonical(&deep("1.0")), canonical(&deep(" 1 ")));
        assert_ne!(canonical(&deep("1")), canonical(&deep("2")));
        let long = format!("[{}]", vec!["1.0"; 100_000].join(" , "));
        assert_eq!(canonical(&long), canonical(&format!("[{}]", vec!["1"; 100_000].join(","))));
    }
}
