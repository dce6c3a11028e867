//! One spelling for every way to write a JSON value, so that two bodies can be compared by what they say.
//!
//! Names are sorted, insignificant white space is dropped, strings are escaped alike, and `1.0`, `1` and `10e-1` are the
//! same number. Numbers never pass through a binary float. The result is for hashing; nothing reads or keeps it, as what
//! [`compact`](crate::compact) gives is.

/// The canonical spelling of a JSON text that was parsed before. Recurses as deep as the text is nested, which
/// [`DEPTH_LIMIT`](crate::body::DEPTH_LIMIT) bounds.
pub(crate) fn canonical(json: &str) -> String {
    let mut writer = Writer { rest: json, out: String::with_capacity(json.len()) };
    writer.value();
    writer.out
}

/// A number as its significant digits, times a power of ten.
struct Number {
    negative: bool,
    digits: String,
    exponent: i64,
}

impl Number {
    /// `None` where the exponent is beyond every number that anyone writes.
    fn read(text: &str) -> Option<Self> {
        let (base, exponent) = text.split_once(['e', 'E']).unwrap_or((text, "0"));
        let unsigned = base.strip_prefix('-').unwrap_or(base);
        let (whole, fraction) = unsigned.split_once('.').unwrap_or((unsigned, ""));
        let digits = [whole, fraction].concat();
        let digits = digits.trim_start_matches('0');
        let significant = digits.trim_end_matches('0');
        if significant.is_empty() {
            return Some(Self { negative: false, digits: "0".to_owned(), exponent: 0 });
        }
        let shift =
            i64::try_from(digits.len() - significant.len()).ok()? - i64::try_from(fraction.len()).ok()?;
        let exponent = exponent.parse::<i64>().ok()?.checked_add(shift)?;
        Some(Self { negative: unsigned.len() < base.len(), digits: significant.to_owned(), exponent })
    }
}

struct Writer<'a> {
    rest: &'a str,
    out: String,
}

impl<'a> Writer<'a> {
    fn skip_space(&mut self) {
        self.rest = self.rest.trim_start_matches([' ', '\t', '\n', '\r']);
    }

    fn take(&mut self, length: usize) -> &'a str {
        let (taken, rest) = self.rest.split_at(length);
        self.rest = rest;
        taken
    }

    /// Whether the next is this character, which is then taken.
    fn takes(&mut self, character: char) -> bool {
        self.skip_space();
        let rest = self.rest.strip_prefix(character);
        self.rest = rest.unwrap_or(self.rest);
        rest.is_some()
    }

    fn value(&mut self) {
        self.skip_space();
        match self.rest.bytes().next() {
            Some(b'{') => self.object(),
            Some(b'[') => self.array(),
            Some(b'"') => self.string(),
            _ => self.scalar(),
        }
    }

    fn array(&mut self) {
        self.takes('[');
        self.out.push('[');
        while !self.rest.is_empty() && !self.takes(']') {
            self.value();
            self.out.push(',');
            self.takes(',');
        }
        self.out.push(']');
    }

    fn object(&mut self) {
        self.takes('{');
        self.out.push('{');
        let start = self.out.len();
        // Where each member begins, where its name ends, and where it ends.
        let mut members = Vec::new();
        while !self.rest.is_empty() && !self.takes('}') {
            let begin = self.out.len();
            self.string();
            let name = self.out.len();
            self.takes(':');
            self.value();
            self.out.push(',');
            self.takes(',');
            members.push((begin, name, self.out.len()));
        }
        let name = |&(begin, name, _): &(usize, usize, usize)| &self.out[begin..name];
        if !members.is_sorted_by_key(name) {
            // Of a name that is there twice, the first stays the first.
            members.sort_by_key(name);
            let sorted: String = members.iter().map(|&(begin, _, end)| &self.out[begin..end]).collect();
            self.out.replace_range(start.., &sorted);
        }
        self.out.push('}');
    }

    fn string(&mut self) {
        self.skip_space();
        let mut escaped = false;
        let mut has_escapes = false;
        let end = self.rest.bytes().skip(1).position(|byte| {
            let is_end = byte == b'"' && !escaped;
            escaped = byte == b'\\' && !escaped;
            has_escapes |= escaped;
            is_end
        });
        let text = self.take(end.map_or(self.rest.len(), |end| end + 2));
        // A text that is no Unicode text (a lone surrogate) stays as it is.
        let plain = if has_escapes { serde_json::from_str::<String>(text).ok() } else { None };
        match plain.and_then(|plain| serde_json::to_string(&plain).ok()) {
            Some(plain) => self.out.push_str(&plain),
            None => self.out.push_str(text),
        }
    }

    /// A number, `true`, `false` or `null`.
    fn scalar(&mut self) {
        let end = self.rest.find([',', ']', '}', ' ', '\t', '\n', '\r']).unwrap_or(self.rest.len());
        let text = self.take(end);
        match text
            .starts_with(|first: char| first == '-' || first.is_ascii_digit())
            .then(|| Number::read(text))
        {
            Some(Some(Number { negative, digits, exponent })) => {
                let sign = if negative { "-" } else { "" };
                self.out.push_str(&format!("{sign}{digits}e{exponent}"));
            }
            Some(None) | None => self.out.push_str(text),
        }
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

    #[test]
    fn a_deep_text_and_a_long_one_are_gone_through_once() {
        let deep = |inner: &str| format!("{}{inner}{}", r#"{"b":"#.repeat(120), r#","a":1}"#.repeat(120));
        assert_eq!(canonical(&deep("1.0")), canonical(&deep(" 1 ")));
        assert_ne!(canonical(&deep("1")), canonical(&deep("2")));
        let long = format!("[{}]", vec!["1.0"; 100_000].join(" , "));
        assert_eq!(canonical(&long), canonical(&format!("[{}]", vec!["1"; 100_000].join(","))));
    }
}
