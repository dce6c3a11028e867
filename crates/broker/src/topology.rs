//! Exchanges, queues and bindings as plain values, and how a topic exchange matches.
//!
//! The values are AMQP 0-9-1's. Both brokers take them; the generated RabbitMQ definitions and the documentation are
//! projections of them.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use event::HeaderValue;
use serde::Serialize;

macro_rules! name {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
        #[serde(transparent)]
        pub struct $name(Arc<str>);

        impl $name {
            /// The name with this text.
            pub fn new(text: impl AsRef<str>) -> Self {
                Self(text.as_ref().into())
            }

            /// The name's text.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }
    };
}

name! {
    /// The name of an exchange; empty for the default exchange, which routes to the queue named by the routing key.
    ExchangeName
}

name! {
    /// The name of a queue.
    QueueName
}

impl ExchangeName {
    /// The default exchange.
    pub fn default_exchange() -> Self {
        Self::new("")
    }
}

/// How an exchange routes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum ExchangeKind {
    /// To everything that is bound.
    Fanout,
    /// To what is bound with the same routing key.
    Direct,
    /// To what is bound with a pattern that matches the routing key: see [`topic_matches`].
    Topic,
}

/// A durable exchange.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Exchange {
    /// Its name.
    pub name: ExchangeName,
    /// How it routes.
    pub kind: ExchangeKind,
    /// Where a message goes that no binding of this exchange takes (`alternate-exchange`).
    pub alternate: Option<ExchangeName>,
}

impl Exchange {
    /// What RabbitMQ is asked for.
    pub fn arguments(&self) -> BTreeMap<&'static str, HeaderValue> {
        let alternate = self.alternate.iter().map(|name| ("alternate-exchange", name.as_str().into()));
        alternate.collect()
    }
}

/// How often a message may come back unsettled before the broker itself dead-letters it.
///
/// A crashing process gives back everything it has prefetched, which says nothing about any single message. A process
/// that is restarted every 2 s comes back 43,200 times a day; the limit is above that, so that a day of crashes
/// dead-letters nothing. The consumer's own count of attempts (`malote_attempt`) decides about a message; this limit
/// only stops endless redelivery.
pub const DELIVERY_LIMIT: u32 = 50_000;

/// A durable queue; on RabbitMQ always a quorum queue that rejects publishes when full.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Queue {
    /// Its name.
    pub name: QueueName,
    /// How often a message may come back unsettled before it is dead-lettered (`x-delivery-limit`); positive.
    pub delivery_limit: u32,
    /// How long a message stays before it is dead-lettered (`x-message-ttl`), to the millisecond.
    pub message_ttl: Option<Duration>,
    /// Where dead letters go (`x-dead-letter-exchange`), with the routing key they have. Always at least once.
    pub dead_letter_exchange: Option<ExchangeName>,
}

impl Queue {
    /// The arguments for RabbitMQ: a quorum queue that rejects publishes when it is full, and keeps a dead letter until
    /// its destination has it.
    pub fn arguments(&self) -> BTreeMap<&'static str, HeaderValue> {
        let mut arguments = BTreeMap::from([
            ("x-queue-type", "quorum".into()),
            ("x-delivery-limit", i64::from(self.delivery_limit).into()),
            ("x-overflow", "reject-publish".into()),
        ]);
        if let Some(exchange) = &self.dead_letter_exchange {
            arguments.insert("x-dead-letter-exchange", exchange.as_str().into());
            arguments.insert("x-dead-letter-strategy", "at-least-once".into());
        }
        if let Some(ttl) = self.message_ttl {
            // RabbitMQ accepts at most 2^32 - 1 milliseconds, about 49 days, and reports a larger value itself.
            let ttl_ms = i64::try_from(ttl.as_millis()).unwrap_or(i64::MAX);
            arguments.insert("x-message-ttl", ttl_ms.into());
        }
        arguments
    }
}

/// What a binding leads to.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Destination {
    /// A queue.
    Queue(QueueName),
    /// Another exchange.
    Exchange(ExchangeName),
}

/// From an exchange to a queue or another exchange.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
pub struct Binding {
    /// The exchange bound to.
    pub exchange: ExchangeName,
    /// What it leads to.
    pub destination: Destination,
    /// The key or pattern; a fanout exchange ignores it.
    pub routing_key: String,
}

/// Everything that is declared together. Exchanges come before what names them.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Topology {
    /// The exchanges.
    pub exchanges: Vec<Exchange>,
    /// The queues.
    pub queues: Vec<Queue>,
    /// The bindings.
    pub bindings: Vec<Binding>,
}

/// Whether a topic exchange's pattern takes a routing key (AMQP 0-9-1, section 3.1.3.3): words between dots, `*` for
/// one word, `#` for any number of words, none included.
pub fn topic_matches(pattern: &str, routing_key: &str) -> bool {
    let pattern: Vec<&str> = pattern.split('.').collect();
    let words: Vec<&str> = routing_key.split('.').collect();
    let (mut next, mut word) = (0, 0);
    // Behind the last `#`, and the first word that it does not take. What an earlier one takes need not be tried again.
    let mut behind = None;
    while word < words.len() {
        match pattern.get(next) {
            Some(&"#") => {
                next += 1;
                behind = Some((next, word));
            }
            Some(&one) if one == "*" || one == words[word] => {
                next += 1;
                word += 1;
            }
            _ => {
                let Some((pattern, taken)) = &mut behind else { return false };
                *taken += 1;
                (next, word) = (*pattern, *taken);
            }
        }
    }
    pattern[next..].iter().all(|one| *one == "#")
}

/// The first word of a pattern with a `*` or `#` beside other characters. Such a word takes only itself, since a wildcard is a
/// whole word.
pub fn partial_wildcard(pattern: &str) -> Option<&str> {
    pattern.split('.').find(|word| word.len() > 1 && word.contains(['*', '#']))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_queue_is_a_quorum_queue_that_loses_nothing() {
        let mut queue = Queue {
            name: QueueName::new("ledger"),
            delivery_limit: 20,
            message_ttl: None,
            dead_letter_exchange: None,
        };
        let check = |queue: &Queue, expect: &[(&'static str, HeaderValue)]| {
            assert_eq!(queue.arguments(), expect.iter().cloned().collect::<BTreeMap<_, _>>());
        };
        let plain = [
            ("x-queue-type", "quorum".into()),
            ("x-delivery-limit", 20.into()),
            ("x-overflow", "reject-publish".into()),
        ];
        check(&queue, &plain);
        queue.dead_letter_exchange = Some(ExchangeName::new("dead"));
        queue.message_ttl = Some(Duration::from_secs(5));
        let dead_lettering = [
            ("x-dead-letter-exchange", "dead".into()),
            ("x-dead-letter-strategy", "at-least-once".into()),
            ("x-message-ttl", 5_000.into()),
        ];
        check(&queue, &[plain.as_slice(), &dead_lettering].concat());
    }

    #[test]
    fn a_wildcard_within_a_word_is_found() {
        let check = |pattern: &str, expect: Option<&str>| {
            assert_eq!(partial_wildcard(pattern), expect, "{pattern}");
        };
        for whole in ["*", "#", "order.*", "#.paid", "a.*.#", "ORDER_CREATED", ""] {
            check(whole, None);
        }
        check("ORDER_*", Some("ORDER_*"));
        check("order.cre*.x", Some("cre*"));
        check("order.**", Some("**"));
        check("a#", Some("a#"));
    }

    #[test]
    fn a_pattern_matches_as_amqp_says() {
        let check = |pattern: &str, key: &str, expect| {
            assert_eq!(topic_matches(pattern, key), expect, "{pattern} {key}");
        };
        check("order.created", "order.created", true);
        check("order.created", "order.updated", false);
        check("order.*", "order.created", true);
        check("order.*", "order", false);
        check("order.*", "order.a.b", false);
        check("invoice.#", "invoice", true);
        check("invoice.#", "invoice.attachment.created", true);
        check("#", "", true);
        check("#", "a.b.c", true);
        check("*.status", "invoice.status", true);
        check("#.status", "a.b.status", true);
        check("#.b.#", "a.b.c.d", true);
        check("#.b.#", "a.c.d", false);
        check("#.#", "", true);
        check("#.*", "", true);
        check("#.b.c", "a.b.b.c", true);
        check("#.b.c.#.d", "b.c.b.c.d", true);
        check("#.b.c.#.d", "b.c.d.c", false);
        // Not in a time that grows with the power of its words.
        check(&"#.a.".repeat(40), &"a.".repeat(60), true);
        check(
            &["#.a.".repeat(40), "c".to_owned()].concat(),
            &["a.".repeat(60), "b".to_owned()].concat(),
            false,
        );
        check("*", "", true);
        check("ORDER_CANCEL", "ORDER_CANCEL", true);
        check("ORDER_CANCEL", "order_cancel", false);
    }
}
