//! Which events a reader wants: providers with patterns of topics.

use std::str::FromStr;

use broker::topology::{partial_wildcard, topic_matches};
use event::ProviderName;

use super::entry::{FeedEvent, Origin};

/// Patterns of topics, each of one provider. Without any, every event is wanted.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Topics(Vec<(ProviderName, String)>);

/// The text names no topics.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BadTopics {
    /// A part has no colon, or nothing after it.
    #[error("expected <provider>:<pattern> such as mercado-eletronico:order.*, got {0:?}")]
    Form(String),
    /// A word of a pattern has a wildcard beside other characters.
    #[error(
        "{pattern:?} matches no topic: `*` is one whole word between dots and `#` any number of words, so {word:?} is only \
         itself; name each topic, such as ORDER_CREATED, or use `#` for all of them"
    )]
    Wildcard {
        /// The pattern.
        pattern: String,
        /// The word.
        word: String,
    },
    /// What is before the colon is not the name of a provider.
    #[error(transparent)]
    Provider(#[from] event::BadName),
}

impl Topics {
    /// Whether an event is wanted.
    pub fn takes(&self, event: &FeedEvent) -> bool {
        self.take(&event.origin)
    }

    /// Whether events of this origin are wanted.
    pub(super) fn take(&self, origin: &Origin) -> bool {
        self.take_topic(&origin.provider, &origin.topic)
    }

    /// Whether events of this topic of a provider are wanted.
    pub fn take_topic(&self, provider: &str, topic: &str) -> bool {
        let fits = |(name, pattern): &(ProviderName, String)| {
            name.as_str() == provider && topic_matches(pattern, topic)
        };
        self.0.is_empty() || self.0.iter().any(fits)
    }

    /// The patterns, each with its provider.
    pub fn patterns(&self) -> impl Iterator<Item = &(ProviderName, String)> {
        self.0.iter()
    }

    /// Refuses a pattern that its author cannot have meant.
    pub fn check(&self) -> Result<(), BadTopics> {
        let found = self.0.iter().find_map(|(_, pattern)| Some((pattern, partial_wildcard(pattern)?)));
        match found {
            None => Ok(()),
            Some((pattern, word)) => {
                Err(BadTopics::Wildcard { pattern: pattern.clone(), word: word.to_owned() })
            }
        }
    }

    /// The providers that are named.
    pub fn providers(&self) -> impl Iterator<Item = &ProviderName> {
        self.0.iter().map(|(provider, _)| provider)
    }
}

impl FromStr for Topics {
    type Err = BadTopics;

    /// Reads `provider:pattern,provider:pattern`, with patterns as AMQP has them.
    fn from_str(text: &str) -> Result<Self, BadTopics> {
        let parts = text.split(',').map(str::trim).filter(|part| !part.is_empty());
        let part = |part: &str| match part.split_once(':') {
            Some((provider, pattern)) if !pattern.is_empty() => {
                Ok((ProviderName::new(provider)?, pattern.to_owned()))
            }
            _ => Err(BadTopics::Form(part.to_owned())),
        };
        parts.map(part).collect::<Result<_, _>>().map(Self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn topics_are_patterns_of_one_provider_each() {
        let topics: Topics = "recuperador:acordo.#, gestao-online:ORDER_CANCEL".parse().unwrap();
        let origin = |provider: &str, topic: &str| Origin {
            provider: provider.to_owned(),
            topic: topic.to_owned(),
            ..Origin::default()
        };
        let check = |provider, topic, expect| {
            assert_eq!(topics.take(&origin(provider, topic)), expect, "{provider} {topic}");
        };
        check("recuperador", "acordo.quitado", true);
        check("recuperador", "boleto.pago", false);
        check("gestao-online", "ORDER_CANCEL", true);
        check("gestao-online", "acordo.quitado", false);
        assert!("".parse::<Topics>().unwrap().take(&origin("any", "topic")));
    }

    #[test]
    fn a_part_that_names_no_topic_is_refused_by_name() {
        let check = |text: &str, expect: &str| {
            assert_eq!(text.parse::<Topics>().unwrap_err().to_string(), expect);
        };
        let form = "expected <provider>:<pattern> such as mercado-eletronico:order.*, got";
        check("recuperador", &format!("{form} \"recuperador\""));
        check("recuperador:a,x:", &format!("{form} \"x:\""));
        let meant: Topics = "gestao-online:ORDER_*".parse().unwrap();
        let refused = meant.check().unwrap_err().to_string();
        assert!(
            refused.starts_with("\"ORDER_*\" matches no topic") && refused.contains("ORDER_CREATED"),
            "{refused}"
        );
        check("A:b", "a provider name takes lower-case letters, digits and '-', not 'A'");
    }
}
