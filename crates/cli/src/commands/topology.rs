//! `malote topology`: what is declared, in four forms, and declaring it.

use std::time::Duration;

use anyhow::{Context, Result};
use broker::{Broker, Destination, Topology};
use broker_rabbitmq::{Inspect, Obstacle, RabbitMq, Step};
use consumer::{DomainEvent, takers};
use event::{ProviderName, Topic};
use serde_json::{Value, json};

use crate::args::TopologyFormat;
use crate::config::{BrokerUrl, Config};
use crate::installation;
use crate::management::{Management, Unseeing};
use crate::registry;
use crate::report;
use crate::table::Lines;

/// The minimum time-out of the confirm of a message that is moved to another queue.
const MOVE_TIMEOUT_MS: u64 = 30_000;

/// Everything that is declared. Without the store, what subscriptions declare is left out, which is said.
async fn declared(config: &Config) -> Topology {
    let queues = installation::subscription_queues(config).await.unwrap_or_else(|error| {
        report::note(format!("without the queues of subscriptions: {error:#}"));
        Vec::new()
    });
    installation::topology_with(config, queues)
}

/// Prints what is declared.
pub async fn show(format: TopologyFormat, config: &Config) {
    let topology = declared(config).await;
    let text = match format {
        TopologyFormat::Table => tables(&topology),
        TopologyFormat::Definitions => {
            let vhost = match &config.broker.url {
                BrokerUrl::Amqp(url) => url.vhost().to_owned(),
                BrokerUrl::Embedded => "/".to_owned(),
            };
            format!("{:#}\n", definitions(&topology, &vhost))
        }
        TopologyFormat::Markdown => reference(config),
        TopologyFormat::Json => format!("{:#}\n", json!(topology)),
    };
    report::print(&text);
}

/// Declares everything on the configured broker, and migrates what an earlier release declared.
pub async fn apply(config: &Config) -> Result<()> {
    let topology = declared(config).await;
    let steps = match &config.broker.url {
        BrokerUrl::Embedded => {
            crate::data_dir::DataDir::open(&config.data.dir)?;
            let broker = installation::open_broker(config)?;
            let declared = broker.declare(&topology).await;
            broker.close().await;
            declared.context("the topology is not declared")?;
            Vec::new()
        }
        BrokerUrl::Amqp(url) => {
            let inspect: Box<dyn Inspect> = match Management::configured(config)? {
                Some(management) => Box::new(management),
                None => Box::new(Unseeing),
            };
            // No sender waits for these publishes.
            let confirm_timeout_ms = config.broker.confirm_timeout_ms.max(MOVE_TIMEOUT_MS);
            let settings = config.broker.rabbitmq(url.clone());
            let broker = RabbitMq::connect(broker_rabbitmq::Config { confirm_timeout_ms, ..settings });
            let steps = broker.migrate(&installation::layout(config), &topology, &*inspect).await;
            broker.close().await;
            steps.context(
                "the topology is not applied: completed steps are kept; run this again to continue",
            )?
        }
    };
    let Topology { exchanges, queues, bindings } = &topology;
    report::line(format!(
        "Declared {} exchanges, {} queues and {} bindings.",
        exchanges.len(),
        queues.len(),
        bindings.len()
    ));
    steps.iter().for_each(|step| report::line(explained(step)));
    Ok(())
}

fn explained(step: &Step) -> String {
    match step {
        Step::Moved { queue, messages } => {
            format!(
                "Moved {messages} messages from {queue}, of an earlier release, to the current retry queue."
            )
        }
        Step::Deleted { queue } => format!("Deleted the empty retry queue {queue} of an earlier release."),
        Step::Renewed { queue, messages } => format!(
            "Replaced queue {queue} by one with the current delivery limit; it has its {messages} messages again."
        ),
        Step::Kept { queue, obstacle } => {
            let why = match obstacle {
                Obstacle::Unseen => {
                    "AMQP does not show whether it is empty. Set broker.management_url and run this \
                                     again"
                        .to_owned()
                }
                Obstacle::Stuck(messages) => format!(
                    "it holds {messages} messages for a queue that does not exist. Declare a queue of that name and run \
                     this again, or delete {queue} with what it holds"
                ),
                Obstacle::Consumed(consumers) => format!(
                    "{consumers} consumers take from it. Stop the role that does, run this again, and start the role"
                ),
                Obstacle::ForeignBindings => {
                    "it has bindings that malote does not declare, which would be lost. Remove \
                                              them, run this again, and bind it again"
                        .to_owned()
                }
            };
            format!("Kept queue {queue} as it is, which works: {why}.")
        }
    }
}

fn tables(topology: &Topology) -> String {
    let mut exchanges = Lines::new(&["Exchange", "Kind", "Alternate"]);
    for exchange in &topology.exchanges {
        let kind = json!(exchange.kind).as_str().unwrap_or_default().to_owned();
        let alternate = exchange.alternate.as_ref().map(ToString::to_string).unwrap_or_default();
        exchanges.add_texts([exchange.name.to_string(), kind, alternate]);
    }
    let mut queues = Lines::new(&["Queue", "Delivery limit", "Waits", "Dead letters to"]);
    for queue in &topology.queues {
        let wait = queue.message_ttl.map(wait).unwrap_or_default();
        let dead = queue.dead_letter_exchange.as_ref().map(ToString::to_string).unwrap_or_default();
        queues.add_texts([queue.name.to_string(), queue.delivery_limit.to_string(), wait, dead]);
    }
    let mut bindings = Lines::new(&["From exchange", "To", "Routing key"]);
    for binding in &topology.bindings {
        let to = match &binding.destination {
            Destination::Queue(queue) => format!("queue {queue}"),
            Destination::Exchange(exchange) => format!("exchange {exchange}"),
        };
        bindings.add_texts([binding.exchange.to_string(), to, binding.routing_key.clone()]);
    }
    format!("{exchanges}\n{queues}\n{bindings}")
}

/// As the queues' names have it: `5s`, `24h`.
fn wait(ttl: Duration) -> String {
    match ttl.as_secs() {
        seconds if seconds > 0 && seconds % 3600 == 0 => format!("{}h", seconds / 3600),
        seconds if seconds > 0 && seconds % 60 == 0 => format!("{}m", seconds / 60),
        seconds => format!("{seconds}s"),
    }
}

/// RabbitMQ's own export format: <https://www.rabbitmq.com/docs/definitions>.
fn definitions(topology: &Topology, vhost: &str) -> Value {
    let exchanges = topology.exchanges.iter().map(|exchange| {
        json!({
            "name": exchange.name, "vhost": vhost, "type": exchange.kind, "durable": true, "auto_delete": false,
            "internal": false, "arguments": exchange.arguments(),
        })
    });
    let queues = topology.queues.iter().map(|queue| {
        json!({
            "name": queue.name, "vhost": vhost, "durable": true, "auto_delete": false,
            "arguments": queue.arguments(),
        })
    });
    let bindings = topology.bindings.iter().map(|binding| {
        let (destination, kind) = match &binding.destination {
            Destination::Queue(queue) => (queue.as_str(), "queue"),
            Destination::Exchange(exchange) => (exchange.as_str(), "exchange"),
        };
        json!({
            "source": binding.exchange, "vhost": vhost, "destination": destination, "destination_type": kind,
            "routing_key": binding.routing_key, "arguments": {},
        })
    });
    json!({
        "exchanges": exchanges.collect::<Vec<_>>(),
        "queues": queues.collect::<Vec<_>>(),
        "bindings": bindings.collect::<Vec<_>>(),
    })
}

/// The topic reference: every documented topic, what it means and who consumes it.
pub fn reference(config: &Config) -> String {
    let mut text =
        String::from("# Topics\n\nEvery documented topic. Others are accepted too, and routed by name.\n");
    text += "\n## Consumers\n\n| consumer | what it does |\n| --- | --- |\n";
    for domain in registry::ALL {
        text += &format!("| `{}` | {} |\n", domain.name(), domain.bindings.purpose);
    }
    for provider in &config.providers {
        text += &format!("\n## `{}`: {}\n\n", provider.name(), provider.title());
        if provider.topics().is_empty() {
            text += "Configured here; its topics are whatever it sends.\n";
            continue;
        }
        text += "| topic | meaning | subject | consumers |\n| --- | --- | --- | --- |\n";
        for topic in provider.topics() {
            let subject =
                if topic.subject.is_empty() { String::new() } else { format!("`{}`", topic.subject) };
            let consumers = consumers(provider.name(), topic.name);
            text += &format!("| `{}` | {} | {subject} | {consumers} |\n", topic.name, topic.meaning);
        }
    }
    let own = ProviderName::own();
    text += &format!("\n## `{own}`: domain events\n\nSee domain-events.md.\n\n");
    text += "| topic | meaning | consumers | subject | source |\n| --- | --- | --- | --- | --- |\n";
    let documents = (documents::COMPONENT.name, documents::EVENTS);
    for (source, events) in
        registry::ALL.iter().map(|domain| (domain.name(), domain.events)).chain([documents])
    {
        for DomainEvent { name, entity, meaning, .. } in events {
            let (consumers, about) = (consumers(&own, name), code_words(entity.kinds()));
            text += &format!("| `{name}` | {meaning} | {consumers} | {about} | `/{own}/{source}` |\n");
        }
    }
    text
}

/// The consumers that take a documented topic.
fn consumers(provider: &ProviderName, topic: &str) -> String {
    let topic = Topic::new(topic).expect("a documented topic follows the rule");
    let declared = registry::ALL.iter().map(|domain| &domain.bindings);
    code_words(&takers(declared, provider, &topic).collect::<Vec<_>>())
}

/// Words as Markdown shows code, in one line.
fn code_words(words: &[&str]) -> String {
    words.iter().map(|word| format!("`{word}`")).collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests {
    use providers::{Provider, TopicInfo};

    use super::*;
    use crate::config::load_parts;

    fn config(text: &str) -> Config {
        load_parts("", text, []).unwrap().0
    }

    #[test]
    fn the_definitions_hold_every_value_with_the_arguments_of_a_quorum_queue() {
        let config = config("broker.url = \"amqps://u:p@host/orders%2Feu\"\nbroker.prefix = \"t.\"");
        let topology = installation::topology(&config);
        let BrokerUrl::Amqp(url) = &config.broker.url else { panic!("it is an AMQP URL") };
        let definitions = definitions(&topology, url.vhost());
        let queue = |name: &str| {
            let queues = definitions["queues"].as_array().unwrap();
            queues.iter().find(|queue| queue["name"] == name).unwrap().clone()
        };
        assert_eq!(
            queue("t.wait.5s"),
            json!({
                "name": "t.wait.5s", "vhost": "orders/eu", "durable": true, "auto_delete": false,
                "arguments": {
                    "x-queue-type": "quorum", "x-delivery-limit": 50_000, "x-overflow": "reject-publish",
                    "x-dead-letter-exchange": "t.requeue", "x-dead-letter-strategy": "at-least-once", "x-message-ttl": 5000,
                },
            })
        );
        assert_eq!(definitions["bindings"].as_array().unwrap().len(), topology.bindings.len());
        assert!(definitions["exchanges"].as_array().unwrap().iter().any(|exchange| {
            exchange["name"] == "t.webhooks.recuperador"
                && exchange["arguments"]["alternate-exchange"] == "t.unrouted"
        }));
    }

    #[test]
    fn the_reference_says_who_consumes_a_topic() {
        let text = reference(&config(""));
        let line = |start: &str| {
            text.lines().find(|line| line.starts_with(start)).unwrap_or_else(|| panic!("{start}"))
        };
        assert!(line("| `invoice.created` |").ends_with("| `invoices` |"));
        assert!(line("| `acordo.quitado` |").ends_with("| `receivables` |"));
        assert!(line("| `order.created` |").ends_with("| `purchasing` |"));
        let provider = Provider::named("mercado-eletronico").unwrap();
        let is_untaken = |info: &&TopicInfo| consumers(provider.name(), info.name).is_empty();
        let untaken = provider.topics().iter().find(is_untaken).unwrap();
        assert!(line(&format!("| `{}` |", untaken.name)).ends_with("|  |"));
        assert!(line("| `receivable.paid` |").ends_with("| `receivable` | `/malote/receivables` |"));
        assert!(line("| `purchase.created` |").contains(" | `order`, `preorder`, "));
        let fetched = "| `invoices` | `invoice` | `/malote/documents` |";
        assert!(line("| `invoice.fetched` |").ends_with(fetched), "{}", line("| `invoice.fetched` |"));
    }
}
