//! The bindings of a consumer: declared once; everything else is a projection.

use broker::layout::{RetryDelay, WorkQueue};
use broker::topology::topic_matches;
use event::{ProviderName, Topic};

/// Waits before the second attempt, the third, and so on: about 31 hours in all, then the event is a dead letter.
pub const DEFAULT_RETRY: &[RetryDelay] = &RetryDelay::ALL;

/// A consumer's declaration. Topology, the topic reference, the command line and the ledger's list of the consumers
/// of an event all come from it.
#[derive(Clone, Copy, Debug)]
pub struct Bindings {
    /// The consumer's name: its queue's name without prefix, its name in the inbox, in metrics and on the command line.
    pub consumer: &'static str,
    /// What it does with what it reads, in a few words.
    pub purpose: &'static str,
    /// For each provider, the patterns it binds to `webhooks.<provider>`.
    pub topics: &'static [(&'static str, &'static [&'static str])],
    /// The maximum number of unsettled deliveries.
    pub prefetch: u16,
    /// The waits between attempts.
    pub retry: &'static [RetryDelay],
}

impl Bindings {
    /// The queue and bindings that this declares.
    pub fn work_queue(&self) -> WorkQueue {
        let provider = |name| ProviderName::new(name).expect("a declared provider's name follows the rule");
        let topics = self
            .topics
            .iter()
            .flat_map(|(name, patterns)| {
                patterns.iter().map(|pattern| (provider(*name), (*pattern).to_owned()))
            })
            .collect();
        WorkQueue { consumer: self.consumer.to_owned(), topics }
    }

    /// Whether an event of this provider with this topic comes to this consumer.
    pub fn takes(&self, provider: &ProviderName, topic: &Topic) -> bool {
        self.topics
            .iter()
            .filter(|(name, _)| *name == provider.as_str())
            .any(|(_, patterns)| patterns.iter().any(|pattern| topic_matches(pattern, topic.as_str())))
    }
}

/// The consumers, of those declared, to which an event of this provider with this topic comes.
pub fn takers<'a>(
    declared: impl IntoIterator<Item = &'a Bindings>,
    provider: &ProviderName,
    topic: &Topic,
) -> impl Iterator<Item = &'static str> {
    let takes = |bindings: &&Bindings| bindings.takes(provider, topic);
    declared.into_iter().filter(takes).map(|bindings| bindings.consumer)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_consumer_takes_what_its_bindings_take() {
        let bindings = Bindings {
            consumer: "invoices",
            purpose: "",
            topics: &[
                ("mercado-eletronico", &["invoice.#"]),
                ("gestao-online", &["TAX_INVOICE_CHANGE_STATUS"]),
            ],
            prefetch: 1,
            retry: DEFAULT_RETRY,
        };
        let check = |provider, topic, expect| {
            let (provider, topic) = (ProviderName::new(provider).unwrap(), Topic::new(topic).unwrap());
            assert_eq!(bindings.takes(&provider, &topic), expect, "{provider} {topic}");
        };
        check("mercado-eletronico", "invoice.attachment.created", true);
        check("gestao-online", "TAX_INVOICE_CHANGE_STATUS", true);
        check("gestao-online", "invoice.created", false);
        assert_eq!(bindings.work_queue().topics.len(), 2);
        let other = Bindings { consumer: "others", topics: &[("mercado-eletronico", &["#"])], ..bindings };
        let topic = |name| Topic::new(name).unwrap();
        let provider = ProviderName::new("mercado-eletronico").unwrap();
        let found = |name| takers(&[bindings, other], &provider, &topic(name)).collect::<Vec<_>>();
        assert_eq!(
            (found("invoice.status"), found("order.created")),
            (vec!["invoices", "others"], vec!["others"])
        );
    }
}
