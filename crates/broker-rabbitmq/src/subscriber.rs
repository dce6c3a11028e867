//! Subscribing: one channel per consumer, deliveries are handed out in order and settled one by one or together.
//!
//! Promises that after an error, or when dropped, the channel is closed and the server gives back what was not settled.
//! A cancelled subscription is never used again, even where the server keeps its channel open or would reactivate it.
//! Acks for the longest prefix of outstanding deliveries are sent as one. It does not know what a message means.
//!
//! RabbitMQ bounds what it delivers by number only, and lapin keeps whatever arrives. A task takes each delivery from lapin at
//! once and counts its bytes, so that a flood of large bodies ends the subscription, whatever its reader does meanwhile.

use std::collections::{BTreeMap, VecDeque};
use std::future::ready;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use broker::{BrokerError, Delivery, DeliveryTag, QueueName, death};
use futures_util::StreamExt;
use futures_util::future::try_join_all;
use lapin::options::{BasicAckOptions, BasicCancelOptions, BasicConsumeOptions, BasicQosOptions};
use lapin::types::{FieldTable, ShortString};
use lapin::{Channel, Consumer};
use metrics::{Gauge, gauge};
use tokio::runtime::Handle;
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};
use tokio::task::JoinHandle;
use tokio::time::{Instant, timeout, timeout_at};

use crate::Unavailable;
use crate::connection::Supervised;
use crate::declare::queue_error;
use crate::link::Link;
use crate::message::{from_properties, short};

/// Starts a consumer on a channel of its own.
pub(crate) async fn subscribe(
    connection: &Supervised,
    queue: &QueueName,
    prefetch: u16,
    deadline: Instant,
) -> Result<Deliveries, BrokerError> {
    let patience = deadline - Instant::now();
    let (link, channel) = connection.channel(deadline).await.map_err(BrokerError::Unavailable)?;
    let consumer = timeout_at(deadline, consume(&channel, queue, prefetch))
        .await
        .map_err(|_| BrokerError::Unavailable(Unavailable::Silent("basic.consume").into()))?
        .map_err(|error| queue_error(std::slice::from_ref(queue), error))?;
    let held = Held::new(queue);
    Ok(Deliveries {
        queue: queue.clone(),
        arriving: Arriving::start(consumer, &channel, &held),
        channel,
        arrived: VecDeque::new(),
        outstanding: BTreeMap::new(),
        held,
        is_over: false,
        patience,
        runtime: Handle::current(),
        _link: link,
    })
}

async fn consume(channel: &Channel, queue: &QueueName, prefetch: u16) -> lapin::Result<Consumer> {
    // A prefetch of 0 would mean no limit at all.
    channel.basic_qos(prefetch.max(1), BasicQosOptions { global: false }).await?;
    let name = short(queue.as_str()).map_err(io::Error::other)?;
    let options = BasicConsumeOptions::default();
    channel.basic_consume(name, ShortString::default(), options, FieldTable::default()).await
}

/// What has arrived and is not settled, and how many bytes its bodies may have.
#[derive(Clone)]
struct Held {
    counts: Arc<Counts>,
    limit: usize,
}

/// Also the metrics of the subscription, while it lives: AMQP does not show what a consumer holds.
struct Counts {
    bytes: AtomicUsize,
    messages: AtomicUsize,
    held: Gauge,
    subscriptions: Gauge,
}

impl Held {
    fn new(queue: &QueueName) -> Self {
        let queue = queue.to_string();
        let counts = Counts {
            bytes: AtomicUsize::new(0),
            messages: AtomicUsize::new(0),
            held: gauge!("amqp_held_deliveries", "queue" => queue.clone()),
            subscriptions: gauge!("amqp_subscriptions", "queue" => queue),
        };
        counts.subscriptions.increment(1.0);
        Self { counts: Arc::new(counts), limit: usize::MAX }
    }

    /// Counts a message; returns whether its body fits.
    fn add(&self, bytes: usize) -> bool {
        self.counts.messages.fetch_add(1, Ordering::Relaxed);
        self.counts.held.increment(1.0);
        self.counts.bytes.fetch_add(bytes, Ordering::Relaxed) + bytes <= self.limit
    }

    fn settle(&self, messages: usize, bytes: usize) {
        self.counts.messages.fetch_sub(messages, Ordering::Relaxed);
        self.counts.held.decrement(messages as f64);
        self.counts.bytes.fetch_sub(bytes, Ordering::Relaxed);
    }

    fn is_overfull(&self) -> bool {
        self.counts.bytes.load(Ordering::Relaxed) > self.limit
    }
}

impl Drop for Counts {
    fn drop(&mut self) {
        self.held.decrement(*self.messages.get_mut() as f64);
        self.subscriptions.decrement(1.0);
    }
}

/// What lapin's stream yields, taken at once.
struct Arriving {
    tag: ShortString,
    deliveries: UnboundedReceiver<lapin::message::Delivery>,
    /// Ends with the stream, with its error if it had one.
    task: JoinHandle<Option<lapin::Error>>,
}

impl Arriving {
    fn start(consumer: Consumer, channel: &Channel, held: &Held) -> Self {
        let (tag, (sender, deliveries)) = (consumer.tag(), unbounded_channel());
        Self { tag, deliveries, task: tokio::spawn(forward(consumer, sender, channel.clone(), held.clone())) }
    }
}

/// Forwards deliveries until the stream ends, nobody reads them, or they exceed what may be held.
async fn forward(
    mut consumer: Consumer,
    arrived: UnboundedSender<lapin::message::Delivery>,
    channel: Channel,
    held: Held,
) -> Option<lapin::Error> {
    while let Some(next) = consumer.next().await {
        let delivery = match next {
            Ok(delivery) => delivery,
            Err(error) => return Some(error),
        };
        if !held.add(delivery.data.len()) || arrived.send(delivery).is_err() {
            // RabbitMQ still sends what it has begun to: lapin would keep it until the channel is closed.
            consumer.set_delegate(|_| ready(()));
            drop(arrived);
            // Fails when the channel is closed already.
            let _ = channel.close(200, "unsubscribed".into()).await;
            break;
        }
    }
    None
}

/// One consumer's deliveries.
pub(crate) struct Deliveries {
    queue: QueueName,
    arriving: Arriving,
    channel: Channel,
    /// Left of the consumer that [`consume_anew`](Self::consume_anew) replaced.
    arrived: VecDeque<lapin::message::Delivery>,
    /// Handed out and not settled, with the bytes of each body. Tags grow in the order of delivery.
    outstanding: BTreeMap<DeliveryTag, usize>,
    held: Held,
    is_over: bool,
    /// Time-out of a change of the prefetch.
    patience: Duration,
    runtime: Handle,
    /// The connection lives as long as somebody uses it.
    _link: Arc<Link>,
}

impl Deliveries {
    /// Ends the subscription. The channel is closed here and not when the value is dropped: RabbitMQ 4.3 reactivates a
    /// cancelled consumer whose deliveries are settled late, and would hand it messages that nobody reads.
    fn end(&mut self) {
        if !std::mem::replace(&mut self.is_over, true) {
            self.arrived.clear();
            self.arriving.deliveries.close();
            while self.arriving.deliveries.try_recv().is_ok() {}
            let channel = self.channel.clone();
            // Fails when the channel is closed already.
            self.runtime.spawn(async move { channel.close(200, "unsubscribed".into()).await });
        }
    }

    /// Ends the subscription for this reason.
    fn ended(&mut self, error: Option<lapin::Error>) -> BrokerError {
        self.end();
        match error {
            _ if self.held.is_overfull() => BrokerError::Overfull { bytes: self.held.limit },
            Some(error) => queue_error(std::slice::from_ref(&self.queue), error),
            None => BrokerError::Unavailable(Unavailable::Cancelled.into()),
        }
    }

    /// Ends the subscription after the stream did.
    async fn stream_ended(&mut self) -> BrokerError {
        let error = (&mut self.arriving.task).await.ok().flatten();
        self.ended(error)
    }

    /// Replaces the consumer by one with another prefetch, on the same channel: RabbitMQ fixes the prefetch of a
    /// consumer when it is created. What the old one holds stays outstanding.
    async fn consume_anew(&mut self, prefetch: u16, bytes: usize) -> lapin::Result<()> {
        let tag = self.arriving.tag.clone();
        self.channel.basic_cancel(tag, BasicCancelOptions::default()).await?;
        // The end of the stream is the cancellation.
        while let Some(delivery) = self.arriving.deliveries.recv().await {
            self.arrived.push_back(delivery);
        }
        let consumer = consume(&self.channel, &self.queue, prefetch).await?;
        self.held.limit = bytes;
        self.arriving = Arriving::start(consumer, &self.channel, &self.held);
        Ok(())
    }
}

#[async_trait]
impl broker::Deliveries for Deliveries {
    async fn next(&mut self) -> Result<Delivery, BrokerError> {
        if self.is_over {
            return Err(self.ended(None));
        }
        let next = match self.arrived.pop_front() {
            Some(delivery) => Some(delivery),
            None => self.arriving.deliveries.recv().await,
        };
        if self.held.is_overfull() {
            return Err(self.ended(None));
        }
        let Some(delivery) = next else { return Err(self.stream_ended().await) };
        self.outstanding.insert(delivery.delivery_tag, delivery.data.len());
        let mut message = from_properties(delivery.properties, delivery.data);
        death::mark(&mut message, &self.queue, delivery.routing_key.as_str());
        Ok(Delivery {
            tag: delivery.delivery_tag,
            redelivered: delivery.redelivered,
            routing_key: delivery.routing_key.into(),
            message,
        })
    }

    async fn ack(&mut self, tags: &[DeliveryTag]) -> Result<(), BrokerError> {
        if self.is_over || self.held.is_overfull() || !self.channel.status().connected() {
            return Err(self.ended(None));
        }
        if self.arriving.task.is_finished() {
            return Err(self.stream_ended().await);
        }
        let before = self.outstanding.len();
        let (acks, bytes) = settle_together(&mut self.outstanding, tags);
        self.held.settle(before - self.outstanding.len(), bytes);
        let ack = |(tag, multiple)| self.channel.basic_ack(tag, BasicAckOptions { multiple });
        // Each is sent when first polled, in this order; the wait is for the socket.
        let sent = try_join_all(acks.into_iter().map(ack)).await;
        sent.map(drop).map_err(|error| self.ended(Some(error)))
    }

    async fn limit(&mut self, prefetch: u16, bytes: usize) -> Result<(), BrokerError> {
        self.ack(&[]).await?;
        match timeout(self.patience, self.consume_anew(prefetch, bytes)).await {
            Ok(changed) => changed.map_err(|error| self.ended(Some(error))),
            Err(_) => {
                self.end();
                Err(BrokerError::Unavailable(Unavailable::Silent("basic.consume").into()))
            }
        }
    }
}

impl Drop for Deliveries {
    fn drop(&mut self) {
        self.end();
    }
}

/// Takes these tags off the outstanding ones; returns what to send, as tag and `multiple`, and the bytes of the bodies. The
/// longest prefix of the outstanding tags that is settled entirely goes as one. Tags that are not outstanding are left out.
fn settle_together(
    outstanding: &mut BTreeMap<DeliveryTag, usize>,
    tags: &[DeliveryTag],
) -> (Vec<(DeliveryTag, bool)>, usize) {
    let settled: BTreeMap<_, _> =
        tags.iter().filter_map(|tag| Some((*tag, *outstanding.get(tag)?))).collect();
    let prefix = outstanding.keys().zip(settled.keys()).take_while(|(ours, theirs)| ours == theirs).count();
    let mut frames = Vec::with_capacity(settled.len() - prefix + 1);
    if let Some(last) = prefix.checked_sub(1).and_then(|index| settled.keys().nth(index)) {
        frames.push((*last, prefix > 1));
    }
    frames.extend(settled.keys().skip(prefix).map(|tag| (*tag, false)));
    outstanding.retain(|tag, _| !settled.contains_key(tag));
    (frames, settled.values().sum())
}

#[cfg(test)]
mod tests {
    use super::settle_together;

    #[test]
    fn the_longest_prefix_is_settled_as_one_and_the_rest_singly() {
        let check = |tags: &[u64], frames: &[(u64, bool)], left: &[u64]| {
            let mut outstanding = [3, 4, 5, 7, 8].map(|tag| (tag, 10)).into();
            let settled = settle_together(&mut outstanding, tags);
            assert_eq!(settled, (frames.to_vec(), 10 * (5 - left.len())), "{tags:?}");
            assert_eq!(outstanding.into_keys().collect::<Vec<_>>(), left, "{tags:?}");
        };
        check(&[3, 4, 5, 7, 8], &[(8, true)], &[]);
        check(&[5, 4, 3], &[(5, true)], &[7, 8]);
        check(&[3, 5, 8], &[(3, false), (5, false), (8, false)], &[4, 7]);
        check(&[3, 4, 7], &[(4, true), (7, false)], &[5, 8]);
        check(&[4, 5], &[(4, false), (5, false)], &[3, 7, 8]);
        check(&[3, 3], &[(3, false)], &[4, 5, 7, 8]);
        check(&[1, 6, 9], &[], &[3, 4, 5, 7, 8]);
        check(&[], &[], &[3, 4, 5, 7, 8]);
    }
}
