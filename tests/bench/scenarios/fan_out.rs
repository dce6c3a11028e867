//! How the broker's cost grows with bound queues, with bindings, and with what waits.

use std::sync::Arc;
use std::time::Instant;

use anyhow::{Result, ensure};
use broker::embedded::Embedded;
use broker::{
    Binding, Destination, DynBroker, Exchange, ExchangeKind, ExchangeName, Queue, QueueName, Topology,
};
use broker_rabbitmq::{Config, RabbitMq};
use event::Message;
use tokio::task::JoinSet;

use super::Bench;
use crate::mix::{self, Post};
use crate::report::{Section, Table, grouped};

const IN_FLIGHT: usize = 256;

/// The sixth scenario.
pub async fn run(bench: Bench<'_>) -> Result<Section> {
    let servers = bench.servers()?;
    let node = &servers.rabbitmq;
    node.create_vhost("fan-out")?;
    let folder = tempfile::tempdir()?;
    let rabbitmq: DynBroker = Arc::new(RabbitMq::connect(Config::new(node.url("fan-out").parse()?)));
    let embedded: DynBroker = Arc::new(Embedded::open(folder.path().join("broker.db"))?);
    let mut table = Table::new(&["what", "RabbitMQ, messages/s", "embedded, messages/s"]);
    for queues in [1, 10, 100] {
        let messages = bench.events(20_000) / queues.min(40);
        let topology = topology(&format!("q{queues}"), queues, 1);
        let mut row =
            vec![format!("published to {queues} bound queue{}", if queues == 1 { "" } else { "s" })];
        for broker in [&rabbitmq, &embedded] {
            broker.declare(&topology).await?;
            row.push(grouped(publish(broker, &topology, messages.max(1)).await?, 0));
        }
        table.row(row);
    }
    for bindings in [1, 1_000] {
        let messages = bench.events(20_000);
        let topology = topology(&format!("b{bindings}"), 1, bindings);
        let mut row = vec![format!("published to 1 queue that has {bindings} bindings")];
        for broker in [&rabbitmq, &embedded] {
            broker.declare(&topology).await?;
            row.push(grouped(publish(broker, &topology, messages).await?, 0));
        }
        table.row(row);
    }
    let (few, many) = (bench.events(20_000), bench.events(100_000));
    let topology = topology("backlog", 1, 1);
    let mut rows = [
        vec!["published to an empty queue".to_owned()],
        vec![format!("published behind {} waiting messages", grouped((few + many) as f64, 0))],
        vec!["taken and acked, all of them".to_owned()],
    ];
    for broker in [&rabbitmq, &embedded] {
        broker.declare(&topology).await?;
        rows[0].push(grouped(publish(broker, &topology, few).await?, 0));
        publish(broker, &topology, many).await?;
        rows[1].push(grouped(publish(broker, &topology, few).await?, 0));
        rows[2].push(grouped(take(broker, &topology, few * 2 + many).await?, 0));
    }
    for row in rows {
        table.row(row);
    }
    rabbitmq.close().await;
    embedded.close().await;
    let text = "Messages of the mix, published over malote's own publisher with 256 in flight, each confirmed by every \
                queue it is routed to; taken with a prefetch of 200 and acked in batches."
        .to_owned();
    Ok(Section { title: "Fan-out and topology size", text, tables: vec![table] })
}

/// A topic exchange and queues bound to it, each by so many patterns, of which the last fits.
fn topology(name: &str, queues: usize, bindings: usize) -> Topology {
    let exchange = ExchangeName::new(name);
    let names: Vec<_> = (0..queues).map(|number| QueueName::new(format!("{name}.{number}"))).collect();
    let bind = |queue: &QueueName, number: usize| Binding {
        exchange: exchange.clone(),
        destination: Destination::Queue(queue.clone()),
        routing_key: if number == 0 { KEY.to_owned() } else { format!("order.{number}.*") },
    };
    Topology {
        bindings: names.iter().flat_map(|queue| (0..bindings).map(|number| bind(queue, number))).collect(),
        queues: names
            .iter()
            .map(|name| Queue {
                name: name.clone(),
                delivery_limit: 20,
                message_ttl: None,
                dead_letter_exchange: None,
            })
            .collect(),
        exchanges: vec![Exchange { name: exchange, kind: ExchangeKind::Topic, alternate: None }],
    }
}

const KEY: &str = "order.created";

fn message(number: usize) -> Result<Message> {
    let Post { source, provider, topic, body } = mix::post(number);
    let source = event::Source::parse(&format!("/{provider}/{source}"))?;
    Ok(event::Event::new(source, event::Topic::new(topic)?, body.into()).to_message())
}

/// Messages per second.
async fn publish(broker: &DynBroker, topology: &Topology, messages: usize) -> Result<f64> {
    let messages = (0..messages).map(message).collect::<Result<Vec<_>>>()?;
    let exchange = &topology.exchanges[0].name;
    let (count, start) = (messages.len(), Instant::now());
    let mut in_flight = JoinSet::new();
    for message in messages {
        if in_flight.len() == IN_FLIGHT
            && let Some(published) = in_flight.join_next().await
        {
            published??;
        }
        let (broker, exchange) = (Arc::clone(broker), exchange.clone());
        in_flight.spawn(async move { broker.publish(&exchange, KEY, message).await });
    }
    while let Some(published) = in_flight.join_next().await {
        published??;
    }
    Ok(count as f64 / start.elapsed().as_secs_f64())
}

/// Messages per second, until the queue is empty.
async fn take(broker: &DynBroker, topology: &Topology, messages: usize) -> Result<f64> {
    let queue = topology.queues[0].name.clone();
    let start = Instant::now();
    let mut deliveries = broker.subscribe(&queue, 200).await?;
    let mut tags = Vec::new();
    for number in 1..=messages {
        tags.push(deliveries.next().await?.tag);
        if tags.len() == 100 || number == messages {
            deliveries.ack(&tags).await?;
            tags.clear();
        }
    }
    let elapsed = start.elapsed();
    drop(deliveries);
    let left = broker.queues(&[queue]).await?;
    ensure!(left.iter().all(|status| status.ready == 0), "messages are left: {left:?}");
    Ok(messages as f64 / elapsed.as_secs_f64())
}
