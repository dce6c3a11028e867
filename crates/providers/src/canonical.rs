//! A canonical spelling of JSON values, so that bodies can be compared by their content.
//!
//! Names are sorted, insignificant white space is dropped, strings are escaped in one way, and `1.0`, `1` and `10e-1`
//! are the same number. Numbers never pass through a binary float. The result is only for hashing; a text to keep comes
//! from [`compact`](crate::compact).

/// The canonical spelling of a JSON text that was parsed before. Recursion is as deep as the text is nested, bounded by
/// [`DEPTH_LIMIT`](crate::body::DEPTH_LIMIT).
pub(crate) fn canonical(json: &str) -> String {
    let mut writer = Writer { json, at: 0, out: String::with_capacity(json.len()) };
    writer.value();
    writer.out
}

struct Writer<'a> {
    json: &'a str,
    /// The position of the reader.
    at: usize,
    out: String,
}

impl<'a> Writer<'a> {
    /// The next byte that is not white space; `None` at the end.
    fn peek(&mut self) -> Option<u8> {
        let rest = &self.json.as_bytes()[self.at..];
        let space = rest.iter().position(|byte| !matches!(byte, b' ' | b'\t' | b'\n' | b'\r'));
        self.at += space.unwrap_or(rest.len());
        self.json.as_bytes().get(self.at).copied()
    }

    /// Skips the next byte if it is this one.
    fn skip(&mut self, byte: u8) {
        if self.peek() == Some(byte) {
            self.at += 1;
        }
    }

    /// Takes the text up to that position.
    fn take(&mut self, end: usize) -> &'a str {
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
        self.out.push('[');
        while self.peek().is_some_and(|byte| byte != b']') {
            self.value();
            self.out.push(',');
            self.skip(b',');
        }
        self.skip(b']');
        self.out.push(']');
    }

    fn object(&mut self) {
        self.skip(b'{');
        self.out.push('{');
        let start = self.out.len();
        // Where each member begins, its name ends, and the member ends.
        let mut members = Vec::with_capacity(8);
        while self.peek().is_some_and(|byte| byte != b'}') {
            let begin = self.out.len();
            self.string();
            let name = self.out.len();
            self.skip(b':');
            self.value();
            self.out.push(',');
            self.skip(b',');
            members.push((begin, name, self.out.len()));
        }
        self.skip(b'}');
        let name = |&(begin, name, _): &(usize, usize, usize)| &self.out[begin..name];
        if !members.is_sorted_by_key(name) {
            // Equal names keep their order.
            members.sort_by_key(name);
            let sorted: Vec<_> = members.iter().map(|&(begin, _, end)| &self.out[begin..end]).collect();
            let sorted = sorted.concat();
            self.out.replace_range(start.., &sorted);
        }
        self.out.push('}');
    }

    fn string(&mut self) {
        self.peek();
        let bytes = self.json.as_bytes();
        let mut has_escapes = false;
        let mut end = self.at + 1;
        while let Some(byte) = bytes.get(end)
            && *byte != b'"'
        {
            has_escapes |= *byte == b'\\';
            end += if *byte == b'\\' { 2 } else { 1 };
        }
        let text = self.take((end + 1).min(bytes.len()));
        // A string that is not Unicode text (a lone surrogate) stays as it is.
        let plain = if has_escapes { serde_json::from_str::<String>(text).ok() } else { None };
        match plain.and_then(|plain| serde_json::to_string(&plain).ok()) {
            Some(plain) => self.out.push_str(&plain),
            None => self.out.push_str(text),
        }
    }

    /// A number, `true`, `false` or `null`.
    fn scalar(&mut self) {
        let is_end = |byte: &u8| matches!(byte, b',' | b']' | b'}' | b' ' | b'\t' | b'\n' | b'\r');
        let rest = &self.json.as_bytes()[self.at..];
        let text = self.take(self.at + rest.iter().position(is_end).unwrap_or(rest.len()));
        let is_number = text.starts_with(|first: char| first == '-' || first.is_ascii_digit());
        if !is_number || self.number(text).is_none() {
            self.out.push_str(text);
        }
    }

    /// Writes a number as its significant digits and a power of ten. `None`, and nothing written, if the exponent is
    /// absurdly large.
    fn number(&mut self, text: &str) -> Option<()> {
        let (base, exponent) = text.split_once(['e', 'E']).unwrap_or((text, "0"));
        let unsigned = base.strip_prefix('-').unwrap_or(base);
        let (whole, fraction) = unsigned.split_once('.').unwrap_or((unsigned, ""));
        let (mut whole, mut fraction) = (whole.trim_start_matches('0'), fraction.trim_end_matches('0'));
        if whole.is_empty() && fraction.is_empty() {
            self.out.push_str("0e0");
            return Some(());
        }
        let mut exponent = exponent.parse::<i64>().ok()?;
        if fraction.is_empty() {
            let significant = whole.trim_end_matches('0');
            exponent = exponent.checked_add(i64::try_from(whole.len() - significant.len()).ok()?)?;
            whole = significant;
        } else {
            exponent = exponent.checked_sub(i64::try_from(fraction.len()).ok()?)?;
            if whole.is_empty() {
                fraction = fraction.trim_start_matches('0');
            }
        }
        if unsigned.len() < base.len() {
            self.out.push('-');
        }
        self.out.push_str(whole);
        self.out.push_str(fraction);
        self.out.push('e');
        self.out.push_str(&exponent.to_string());
        Some(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

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
        let check = |json: &str, expect: &str| assert_eq!(canonical(json), expect);
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
