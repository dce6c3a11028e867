//! Consumes the queue of a subscription: `AMQP_URL=amqp://user:password@host/vhost consume subscription.NAME`

use std::env;

use futures_util::StreamExt;
use lapin::options::{BasicAckOptions, BasicConsumeOptions, BasicQosOptions};
use lapin::types::FieldTable;
use lapin::{Connection, ConnectionProperties};

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let queue = env::args().nth(1).ok_or("the name of the queue is missing")?;
    let connection = Connection::connect(&env::var("AMQP_URL")?, ConnectionProperties::default()).await?;
    let channel = connection.create_channel().await?;
    channel.basic_qos(50, BasicQosOptions::default()).await?;
    let (options, arguments) = (BasicConsumeOptions::default(), FieldTable::default());
    let mut deliveries = channel.basic_consume(queue.into(), "".into(), options, arguments).await?;
    while let Some(delivery) = deliveries.next().await {
        let delivery = delivery?;
        let (id, topic) = (delivery.properties.message_id(), delivery.properties.kind());
        let text = |value: &Option<lapin::types::ShortString>| {
            value.as_ref().map(ToString::to_string).unwrap_or_default()
        };
        println!("{} {} {}", text(id), text(topic), String::from_utf8_lossy(&delivery.data));
        delivery.ack(BasicAckOptions::default()).await?; // Only now is it delivered.
    }
    Ok(())
}
