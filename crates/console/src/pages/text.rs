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
