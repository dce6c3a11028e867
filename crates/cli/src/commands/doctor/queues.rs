//! The queues of subscriptions, for `malote doctor`: one that nobody reads takes disk and memory of the broker.

use std::sync::Arc;

use broker_rabbitmq::RabbitMq;
use store::Store;
use subscriptions::queue::{QueueError, QueueReport};
use subscriptions::{DoorKind, Subscription, push};

use super::Findings;
use crate::config::{BrokerUrl, Config};
use crate::installation;
use crate::report::chain;

/// Reports each queue of a subscription. Tables of an earlier release have none.
pub(super) async fn check(config: &Config, store: &Store, findings: &mut Findings) {
    let Ok(mut all) = subscriptions::list(store).await else { return };
    let has_queue = |one: &Subscription| matches!(one.door().map(|door| door.kind()), Ok(DoorKind::Queue));
    all.retain(has_queue);
    if all.is_empty() {
        return;
    }
    let BrokerUrl::Amqp(url) = &config.broker.url else {
        let names: Vec<_> = all.iter().map(|one| one.name().as_str()).collect();
        return findings.bad(
            format!("subscriptions without a queue: {}; {}", names.join(", "), QueueError::Embedded),
            "remove them with `malote subscriptions remove NAME`, and add them again with --pull or --push",
        );
    };
    if matches!(push::is_running(store).await, Ok(false)) {
        findings.bad(
            format!("no process keeps the queues of subscriptions ({})", all.len()),
            "start `malote up`, or `malote subscriptions`: it declares them, and reports one that nobody reads",
        );
    }
    let broker = Arc::new(RabbitMq::connect(config.broker.rabbitmq(url.clone())));
    let reports = async {
        anyhow::Ok(installation::queues(config, broker.clone(), store.clone())?.report(&all).await?)
    };
    match reports.await {
        Ok(reports) => reports.iter().for_each(|report| show(report, findings)),
        Err(error) => findings.bad(
            format!("the queues of subscriptions cannot be inspected: {}", chain(&*error)),
            "see the findings about the broker above",
        ),
    }
    broker::Broker::close(&*broker).await;
}

fn show(report: &QueueReport, findings: &mut Findings) {
    let contents = contents(report);
    match (&report.trouble, report.messages) {
        (None, _) => findings.good(format!(
            "queue {} of subscription {}: {contents}, {} consumers",
            report.queue, report.name, report.consumers
        )),
        (Some(trouble), Some(_)) => findings.bad(
            format!("subscription {}: {trouble}; it holds {contents}", report.name),
            format!(
                "start its consumer, or remove it with what it holds: `malote subscriptions remove {}`; a broker that runs \
                 short of disk or memory stops every publish",
                report.name
            ),
        ),
        (Some(trouble), None) => findings.bad(
            format!("subscription {}: {trouble}", report.name),
            "the role `subscriptions` declares it: start one; its log says more",
        ),
    }
}

/// Such as `12 messages (3 MB, the oldest of 2026-11-27T03:00:00Z)`.
fn contents(report: &QueueReport) -> String {
    let bytes = report.bytes.map(|bytes| match bytes {
        0..10_000 => format!("{bytes} bytes"),
        10_000..10_000_000 => format!("{} kB", bytes / 1_000),
        _ => format!("{} MB", bytes / 1_000_000),
    });
    let oldest = report.oldest.map(|oldest| format!("the oldest of {oldest}"));
    let details: Vec<_> = bytes.into_iter().chain(oldest).collect();
    let messages = report.messages.unwrap_or_default();
    match details.is_empty() {
        true => format!("{messages} messages"),
        false => format!("{messages} messages ({})", details.join(", ")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_waits_is_told_as_far_as_it_is_known() {
        let report = QueueReport {
            name: event::SubscriptionName::new("crm").unwrap(),
            queue: broker::QueueName::new("subscription.crm"),
            messages: Some(12),
            consumers: 0,
            oldest: None,
            bytes: None,
            trouble: None,
        };
        assert_eq!(contents(&report), "12 messages");
        let oldest = event::Timestamp::from_second(1_790_000_000).ok();
        let whole = QueueReport { bytes: Some(3_200_000), oldest, ..report.clone() };
        assert_eq!(contents(&whole), "12 messages (3200 kB, the oldest of 2026-09-21T14:13:20Z)");
        assert_eq!(contents(&QueueReport { bytes: Some(7), ..report }), "12 messages (7 bytes)");
    }
}
