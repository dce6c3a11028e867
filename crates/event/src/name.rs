//! The names an event carries: who sent it, what happened, to what.

use std::fmt;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

/// A name that cannot be used, and why. Says the rule, so that it can be shown as it is.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BadName {
    /// The name has no characters.
    #[error("a {what} must not be empty")]
    Empty {
        /// The kind of name.
        what: &'static str,
    },
    /// The name is longer than AMQP or a URL path takes.
    #[error("a {what} has at most {limit_bytes} bytes, this one has {bytes}")]
    TooLong {
        /// The kind of name.
        what: &'static str,
        /// Its length.
        bytes: usize,
        /// The longest allowed.
        limit_bytes: usize,
    },
    /// The name has a character outside its alphabet.
    #[error("a {what} takes {allowed}, not {found:?}")]
    Character {
        /// The kind of name.
        what: &'static str,
        /// The alphabet.
        allowed: &'static str,
        /// The first offending character.
        found: char,
    },
}

fn check(
    what: &'static str,
    text: &str,
    limit_bytes: usize,
    allowed: &'static str,
    is_allowed: fn(char) -> bool,
) -> Result<(), BadName> {
    if text.is_empty() {
        return Err(BadName::Empty { what });
    }
    if text.len() > limit_bytes {
        return Err(BadName::TooLong { what, bytes: text.len(), limit_bytes });
    }
    match text.chars().find(|c| !is_allowed(*c)) {
        Some(found) => Err(BadName::Character { what, allowed, found }),
        None => Ok(()),
    }
}

macro_rules! name {
    ($(#[$doc:meta])* $name:ident, $what:literal, $limit:expr, $allowed:literal, $is_allowed:expr) => {
        $(#[$doc])*
        #[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(try_from = "String", into = "String")]
        pub struct $name(Arc<str>);

        impl $name {
            /// Checks the text against the rule of this kind of name.
            pub fn new(text: impl AsRef<str>) -> Result<Self, BadName> {
                let text = text.as_ref();
                check($what, text, $limit, $allowed, $is_allowed)?;
                Ok(Self(text.into()))
            }

            /// The name's text.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl TryFrom<String> for $name {
            type Error = BadName;

            fn try_from(text: String) -> Result<Self, BadName> {
                Self::new(text)
            }
        }

        impl From<$name> for String {
            fn from(name: $name) -> String {
                name.0.as_ref().to_owned()
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }
    };
}

fn is_slug(c: char) -> bool {
    c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-'
}

name! {
    /// A kind of sender: `mercado-eletronico`. Part of exchange names.
    ProviderName, "provider name", 64, "lower-case letters, digits and '-'", is_slug
}

name! {
    /// One configured sender of a provider: the last part of its webhook address.
    SourceName, "source name", 64, "lower-case letters, digits and '-'", is_slug
}

name! {
    /// What an internal service asked for. Part of the name of its queue and of its address in the API.
    SubscriptionName, "subscription name", 64, "lower-case letters, digits and '-'", is_slug
}

name! {
    /// The provider's own name for what happened, verbatim: CloudEvents `type` and AMQP routing key.
    ///
    /// AMQP 0-9-1 gives a routing key 255 bytes (shortstr, section 4.2.5.3).
    Topic, "topic", 255, "any characters but control characters", |c| !c.is_control()
}

impl ProviderName {
    /// The provider of malote's own domain events. No configured source can have it.
    pub const OWN: &'static str = "malote";

    /// The name [`Self::OWN`].
    pub fn own() -> Self {
        Self(Self::OWN.into())
    }

    /// Whether it is [`Self::OWN`].
    pub fn is_own(&self) -> bool {
        self.as_str() == Self::OWN
    }
}

/// What an event is about: `<entity>/<the provider's id>`, such as `order/0000593098`.
///
/// Subjects travel in headers and logs, so they never hold personal data.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Subject(String);

impl Subject {
    /// The longest subject, in bytes: enough for any id seen, short enough for an index.
    pub const LIMIT_BYTES: usize = 255;

    /// The subject of an entity with the provider's id, its text kept exactly. Longer ids are cut at
    /// [`Self::LIMIT_BYTES`], at a character's edge; control characters become `_`.
    pub fn new(entity: &str, id: &str) -> Self {
        Self::cleaned([entity, "/", id].concat())
    }

    /// A subject from its whole text, cut and cleaned like [`Self::new`].
    pub fn from_text(text: &str) -> Self {
        Self::cleaned(text.to_owned())
    }

    fn cleaned(mut text: String) -> Self {
        let mut end = text.len().min(Self::LIMIT_BYTES);
        while !text.is_char_boundary(end) {
            end -= 1;
        }
        text.truncate(end);
        // Hardly any text needs a look at each character.
        match text.bytes().all(|byte| matches!(byte, b' '..=b'~')) {
            true => Self(text),
            false => Self(text.replace(char::is_control, "_")),
        }
    }

    /// The subject's text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl From<Subject> for String {
    fn from(subject: Subject) -> Self {
        subject.0
    }
}

impl fmt::Display for Subject {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Where an event came from: `/<provider>/<source name>` (CloudEvents `source`, a URI reference).
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Source {
    /// The kind of sender.
    pub provider: ProviderName,
    /// The configured sender.
    pub name: SourceName,
}

impl Source {
    /// A source from its two parts.
    pub fn new(provider: ProviderName, name: SourceName) -> Self {
        Self { provider, name }
    }

    /// Reads the text that [`fmt::Display`] writes.
    pub fn parse(text: &str) -> Result<Self, BadName> {
        let path = text.strip_prefix('/').unwrap_or(text);
        let (provider, name) = path.split_once('/').unwrap_or((path, ""));
        Ok(Self { provider: ProviderName::new(provider)?, name: SourceName::new(name)? })
    }
}

impl Source {
    /// Its text, `/<provider>/<source name>`.
    pub fn to_text(&self) -> String {
        ["/", self.provider.as_str(), "/", self.name.as_str()].concat()
    }
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.to_text())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_topic_takes_what_a_routing_key_takes() {
        let check = |text: &str| Topic::new(text).map_err(|e| e.to_string());
        assert!(check("order.created").is_ok());
        assert!(check("ação realizada").is_ok());
        assert_eq!(check("").unwrap_err(), "a topic must not be empty");
        assert_eq!(check(&"x".repeat(256)).unwrap_err(), "a topic has at most 255 bytes, this one has 256");
        assert_eq!(
            check("a\nb").unwrap_err(),
            r"a topic takes any characters but control characters, not '\n'"
        );
    }

    #[test]
    fn a_source_survives_its_text() {
        let source = Source::parse("/recuperador/rec-1").unwrap();
        assert_eq!(source.to_string(), "/recuperador/rec-1");
        assert!(Source::parse("/recuperador").is_err());
        assert!(Source::parse("/Recuperador/x").is_err());
    }

    #[test]
    fn a_subject_is_cut_at_a_characters_edge() {
        let subject = Subject::new("order", &"ç".repeat(200));
        assert!(subject.as_str().len() <= Subject::LIMIT_BYTES);
        assert!(subject.as_str().ends_with('ç'));
    }
}
