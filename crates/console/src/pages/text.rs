//! The languages of the pages. Texts are looked up by their English form, which is that of the API and the command line.

use std::collections::HashMap;
use std::sync::LazyLock;

use event::Timestamp;

/// A language of the pages.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Lang {
    English,
    Portuguese,
}

static PORTUGUESE: LazyLock<HashMap<&str, &str>> = LazyLock::new(|| {
    serde_json::from_str(include_str!("../../assets/pt-BR.json"))
        .expect("the catalogue is JSON without escapes")
});

/// Texts with values, the longest first: the most of it is fixed.
static PATTERNS: LazyLock<Vec<(&str, &str)>> = LazyLock::new(|| {
    let mut patterns: Vec<_> = PORTUGUESE.iter().map(|(english, text)| (*english, *text)).collect();
    patterns.retain(|(english, _)| english.contains("{}"));
    patterns.sort_by_key(|(english, _)| (std::cmp::Reverse(english.len()), *english));
    patterns
});

/// What stands in a text for each `{}` of a pattern; `None` if the text is another.
fn values<'a>(pattern: &str, text: &'a str) -> Option<Vec<&'a str>> {
    let mut parts = pattern.split("{}");
    let mut rest = text.strip_prefix(parts.next()?)?;
    let mut values = Vec::new();
    let mut parts = parts.peekable();
    while let Some(part) = parts.next() {
        let at = if parts.peek().is_some() { rest.find(part) } else { rest.len().checked_sub(part.len()) }?;
        let (value, found) = rest.split_at_checked(at)?;
        rest = found.strip_prefix(part)?;
        values.push(value);
    }
    Some(values)
}

/// A text with these values in place of each `{}`.
fn fill(text: &str, values: &[&str]) -> String {
    let mut parts = text.split("{}");
    let first = parts.next().unwrap_or_default().to_owned();
    values.iter().zip(parts).fold(first, |text, (value, part)| format!("{text}{value}{part}"))
}

impl Lang {
    /// The language of this code.
    pub(crate) fn named(code: &str) -> Option<Self> {
        [Self::English, Self::Portuguese].into_iter().find(|lang| lang.code() == code)
    }

    /// The one that a browser wants most, as far as it is there.
    pub(crate) fn wanted(accept_language: &str) -> Self {
        let wanted = accept_language.split(',').map(|part| part.trim().to_ascii_lowercase());
        let known = wanted.filter_map(|tag| match &tag {
            tag if tag.starts_with("pt") => Some(Self::Portuguese),
            tag if tag.starts_with("en") => Some(Self::English),
            _ => None,
        });
        known.into_iter().next().unwrap_or(Self::English)
    }

    /// Its tag (BCP 47).
    pub(crate) fn code(self) -> &'static str {
        match self {
            Self::English => "en",
            Self::Portuguese => "pt-BR",
        }
    }

    /// What it calls itself.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::English => "English",
            Self::Portuguese => "Português",
        }
    }

    /// The other one.
    pub(crate) fn other(self) -> Self {
        match self {
            Self::English => Self::Portuguese,
            Self::Portuguese => Self::English,
        }
    }

    /// A text in this language. What the catalogue does not have, such as a text of a later release, stays English.
    pub(crate) fn text(self, english: &str) -> &str {
        match self {
            Self::English => english,
            Self::Portuguese => PORTUGUESE.get(english).copied().unwrap_or(english),
        }
    }

    /// A message in this language, whose values the catalogue has as `{}`.
    pub(crate) fn message(self, english: &str) -> String {
        if self == Self::English {
            return english.to_owned();
        }
        let known = PORTUGUESE.get(english).map(|text| (*text).to_owned());
        let filled = |(pattern, text): (&&str, &&str)| Some(fill(text, &values(pattern, english)?));
        let found = known.or_else(|| PATTERNS.iter().find_map(|pattern| filled((&pattern.0, &pattern.1))));
        found.unwrap_or_else(|| english.to_owned())
    }

    /// Whether it has a text.
    #[cfg(test)]
    pub(crate) fn has(self, english: &str) -> bool {
        self == Self::English || PORTUGUESE.contains_key(english)
    }

    /// How long ago a time was, in the largest whole unit.
    pub(crate) fn ago(self, time: Timestamp, now: Timestamp) -> String {
        let seconds = now.as_second() - time.as_second();
        let (number, unit) = match seconds.unsigned_abs() {
            seconds @ 0..60 => (seconds, "s"),
            seconds @ 60..3_600 => (seconds / 60, "min"),
            seconds @ 3_600..86_400 => (seconds / 3_600, "h"),
            seconds => (seconds / 86_400, "d"),
        };
        match (self, seconds < 0) {
            (Self::English, false) => format!("{number} {unit} ago"),
            (Self::English, true) => format!("in {number} {unit}"),
            (Self::Portuguese, false) => format!("há {number} {unit}"),
            (Self::Portuguese, true) => format!("em {number} {unit}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_known_language_of_the_browser_is_taken() {
        for (header, lang) in [
            ("pt-BR,pt;q=0.9,en;q=0.8", Lang::Portuguese),
            ("en-GB, pt", Lang::English),
            ("fr,pt-PT;q=0.5", Lang::Portuguese),
            ("fr", Lang::English),
            ("", Lang::English),
        ] {
            assert_eq!(Lang::wanted(header), lang, "{header}");
        }
    }

    #[test]
    fn a_message_keeps_its_values_in_the_other_language() {
        let message = |text: &str| Lang::Portuguese.message(text);
        let role = "This needs a token with the role admin; this one has the role viewer.";
        assert_eq!(message(role), "Isto precisa de um token com o papel admin; este tem o papel viewer.");
        assert_eq!(message("There is none with this id."), "Não há nada com este id.");
        assert_eq!(message("what nobody has written"), "what nobody has written");
        assert_eq!(values("{}: given twice", "id: given twice"), Some(vec!["id"]));
        assert_eq!(values("{} of {}", "1 of 2 of 3"), Some(vec!["1", "2 of 3"]));
        assert_eq!(values("{}: given twice", "id: given"), None);
    }

    #[test]
    fn times_are_told_by_their_distance() {
        let now: Timestamp = "2026-11-22T12:00:00Z".parse().unwrap();
        let check = |time: &str, english: &str, portuguese: &str| {
            let time = time.parse().unwrap();
            assert_eq!(
                (Lang::English.ago(time, now), Lang::Portuguese.ago(time, now)),
                (english.into(), portuguese.into())
            );
        };
        check("2026-11-22T11:59:59Z", "1 s ago", "há 1 s");
        check("2026-11-22T11:00:01Z", "59 min ago", "há 59 min");
        check("2026-11-21T12:00:01Z", "23 h ago", "há 23 h");
        check("2026-11-20T12:00:00Z", "2 d ago", "há 2 d");
        check("2026-11-22T12:05:00Z", "in 5 min", "em 5 min");
    }
}
