//! Subscribing: one channel per consumer, deliveries are handed out in order and settled one by one or together.
//!
//! Promises that after an error, or when dropped, the channel is closed and the server gives back what was not settled.
//! A cancelled subscription is never used again, even where the server keeps its channel open or would reactivate it.
//! Acks for the longest prefix of outstanding deliveries are sent as one. It does not know what a message means.

use std::collections::{BTreeSet, VecDeque};
use std::io;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use broker::{BrokerError, Delivery, DeliveryTag, QueueName, death};
use futures_util::future::try_join_all;
use futures_util::{FutureExt, StreamExt};
use lapin::options::{BasicAckOptions, BasicCancelOptions, BasicConsumeOptions, BasicQosOptions};
use lapin::types::{FieldTable, ShortString};
use lapin::{Channel, Consumer};
use tokio::runtime::Handle;
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
    Ok(Deliveries {
        queue: queue.clone(),
        consumer,
        channel,
        arrived: VecDeque::new(),
        outstanding: BTreeSet::new(),
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

/// One consumer's deliveries.
pub(crate) struct Deliveries {
    queue: QueueName,
    consumer: Consumer,
    channel: Channel,
    /// Taken from the stream and not handed out yet.
    arrived: VecDeque<lapin::message::Delivery>,
    /// Handed out and not settled. Tags grow in the order of delivery.
    outstanding: BTreeSet<DeliveryTag>,
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
            let channel = self.channel.clone();
            // Fails when the channel is closed already.
            self.runtime.spawn(async move { channel.close(200, "unsubscribed".into()).await });
        }
    }

    /// Ends the subscription with what lapin's stream returned instead of a delivery. The stream returns it once, and
    /// is pending forever afterwards.
    fn ended(&mut self, last: Option<lapin::Error>) -> BrokerError {
        self.end();
        match last {
            Some(error) => queue_error(std::slice::from_ref(&self.queue), error),
            None => over(),
        }
    }

    /// Replaces the consumer by one with another prefetch, on the same channel: RabbitMQ fixes the prefetch of a
    /// consumer when it is created. What the old one holds stays outstanding.
    async fn consume_anew(&mut self, prefetch: u16) -> lapin::Result<()> {
        let tag = self.consumer.tag();
        self.channel.basic_cancel(tag, BasicCancelOptions::default()).await?;
        // The end of the stream is the cancellation.
        while let Some(delivery) = self.consumer.next().await.transpose()? {
            self.arrived.push_back(delivery);
        }
        self.consumer = consume(&self.channel, &self.queue, prefetch).await?;
        Ok(())
    }

    /// Takes what has arrived from the stream, which shows whether the subscription is over.
    fn look(&mut self) -> Result<(), BrokerError> {
        while let Some(next) = self.consumer.next().now_or_never() {
            match next {
                Some(Ok(delivery)) => self.arrived.push_back(delivery),
                Some(Err(error)) => return Err(self.ended(Some(error))),
                None => return Err(self.ended(None)),
            }
        }
        Ok(())
    }
}

#[async_trait]
impl broker::Deliveries for Deliveries {
    async fn next(&mut self) -> Result<Delivery, BrokerError> {
        if self.is_over {
            return Err(over());
        }
        let delivery = match self.arrived.pop_front() {
            Some(delivery) => delivery,
            None => match self.consumer.next().await {
                Some(Ok(delivery)) => delivery,
                Some(Err(error)) => return Err(self.ended(Some(error))),
                None => return Err(self.ended(None)),
            },
        };
        self.outstanding.insert(delivery.delivery_tag);
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
        if self.is_over || !self.channel.status().connected() {
            self.end();
            return Err(over());
        }
        self.look()?;
        let acks = settle_together(&mut self.outstanding, tags);
        let ack = |(tag, multiple)| self.channel.basic_ack(tag, BasicAckOptions { multiple });
        // Each is sent when first polled, in this order; the wait is for the socket.
        let sent = try_join_all(acks.into_iter().map(ack)).await;
        sent.map(drop).map_err(|error| self.ended(Some(error)))
    }

    async fn limit(&mut self, prefetch: u16) -> Result<(), BrokerError> {
        self.ack(&[]).await?;
        match timeout(self.patience, self.consume_anew(prefetch)).await {
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

fn over() -> BrokerError {
    BrokerError::Unavailable(Unavailable::Cancelled.into())
}

/// Takes these tags off the outstanding ones; returns what to send, as tag and `multiple`. The longest prefix of the
/// outstanding tags that is settled entirely goes as one. Tags that are not outstanding are left out.
fn settle_together(
    outstanding: &mut BTreeSet<DeliveryTag>,
    tags: &[DeliveryTag],
) -> Vec<(DeliveryTag, bool)> {
    let settled: BTreeSet<_> = tags.iter().filter(|tag| outstanding.contains(tag)).copied().collect();
    let prefix = outstanding.iter().zip(&settled).take_while(|(ours, theirs)| ours == theirs).count();
    let mut frames = Vec::with_capacity(settled.len() - prefix + 1);
    if let Some(last) = prefix.checked_sub(1).and_then(|index| settled.iter().nth(index)) {
        frames.push((*last, prefix > 1));
    }
    frames.extend(settled.iter().skip(prefix).map(|tag| (*tag, false)));
    outstanding.retain(|tag| !settled.contains(tag));
    frames
}

#[cfg(test)]
mod tests {
    use super::settle_together;

    #[test]
    fn the_longest_prefix_is_settled_as_one_and_the_rest_singly() {
        let check = |tags: &[u64], frames: &[(u64, bool)], left: &[u64]| {
            let mut outstanding = [3, 4, 5, 7, 8].into();
            assert_eq!(settle_together(&mut outstanding, tags), frames, "{tags:?}");
            assert_eq!(outstanding.into_iter().collect::<Vec<_>>(), left, "{tags:?}");
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
