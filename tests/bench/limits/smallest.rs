//! The smallest handler that does what an ingress is for: axum reads the body, one struct reads the topic, lapin publishes,
//! mandatory and persistent, and the answer is given once the broker has confirmed. No credentials, no spool, no metrics, no
//! limits, and no attributes, unless it is asked for a message's properties and headers: then the body comes with as many as
//! malote gives it. A process of its own, as malote is one.

use std::borrow::Cow;
use std::convert::Infallible;
use std::net::Ipv4Addr;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use anyhow::Result;
use axum::Router;
use axum::body::Bytes;
use axum::extract::{Path, State};
use axum::http::StatusCode;
use axum::http::header::CONTENT_TYPE;
use axum::response::IntoResponse;
use axum::routing::post;
use lapin::options::{BasicPublishOptions, ConfirmSelectOptions};
use lapin::{BasicProperties, Channel, Confirmation, Connection, ConnectionProperties};
use serde::Deserialize;
use tokio::net::TcpListener;

use super::confirms;

/// The command line that makes this program the handler, before the broker's URL and the port.
pub const COMMAND: &str = "serve-smallest-handler";

/// As many as malote has.
const CHANNELS: usize = 2;

/// What the four providers of the mix call the topic. Recuperador has no field for it.
#[derive(Deserialize)]
struct Body<'a> {
    #[serde(borrow, alias = "event_id", alias = "status")]
    topic: Option<Cow<'a, str>>,
}

/// The topic that a body names. Recuperador's follows from other fields, which this handler does not read.
pub(super) fn topic(body: &[u8]) -> Result<Cow<'_, str>> {
    Ok(serde_json::from_slice::<Body<'_>>(body)?.topic.unwrap_or("acordo.cadastrado".into()))
}

struct Broker {
    channels: Vec<Channel>,
    next: AtomicUsize,
    attributes: Attributes,
}

/// What a message has beside its body.
#[derive(Clone, Copy)]
pub enum Attributes {
    /// Nothing but its persistence.
    None,
    /// The properties and headers of malote's.
    Event,
}

impl Attributes {
    /// As an argument of the command line.
    fn name(self) -> &'static str {
        match self {
            Self::None => "without-attributes",
            Self::Event => "with-attributes",
        }
    }
}

/// The handler, as the other process.
pub async fn serve(arguments: &[String]) -> Result<Infallible> {
    let [url, port, attributes] = arguments else { anyhow::bail!("expected a URL, a port and attributes") };
    let attributes =
        if attributes == Attributes::Event.name() { Attributes::Event } else { Attributes::None };
    let connection = Connection::connect(url, ConnectionProperties::default()).await?;
    let mut channels = Vec::new();
    for _ in 0..CHANNELS {
        let channel = connection.create_channel().await?;
        channel.confirm_select(ConfirmSelectOptions::default()).await?;
        channels.push(channel);
    }
    let broker = Arc::new(Broker { channels, next: AtomicUsize::new(0), attributes });
    let router = Router::new().route("/webhooks/{source}", post(receive)).with_state(broker);
    axum::serve(TcpListener::bind((Ipv4Addr::LOCALHOST, port.parse()?)).await?, router).await?;
    anyhow::bail!("the server ended")
}

async fn receive(
    State(broker): State<Arc<Broker>>,
    Path(source): Path<String>,
    body: Bytes,
) -> impl IntoResponse {
    match broker.publish(&source, &body).await {
        Ok(answer) => (StatusCode::OK, [(CONTENT_TYPE, "application/json")], answer),
        Err(error) => (StatusCode::SERVICE_UNAVAILABLE, [(CONTENT_TYPE, "text/plain")], error.to_string()),
    }
}

impl Broker {
    async fn publish(&self, source: &str, body: &[u8]) -> Result<String> {
        let provider = match source {
            "me" => "mercado-eletronico",
            "go" => "gestao-online",
            "rec" => "recuperador",
            _ => "beneficio-visao",
        };
        let topic = topic(body)?;
        let channel = &self.channels[self.next.fetch_add(1, Ordering::Relaxed) % CHANNELS];
        let options = BasicPublishOptions { mandatory: true, immediate: false };
        let properties = match self.attributes {
            Attributes::None => BasicProperties::default().with_delivery_mode(2),
            Attributes::Event => {
                confirms::properties(&confirms::message(source, provider, &topic, Bytes::new())?)
            }
        };
        let exchange = format!("received.{provider}").into();
        let publish = channel.basic_publish(exchange, topic.as_ref().into(), options, body, properties);
        match publish.await?.await? {
            Confirmation::Ack(None) => Ok(serde_json::json!({ "topic": topic }).to_string()),
            other => anyhow::bail!("not confirmed: {other:?}"),
        }
    }
}

/// The command that serves it on a port of this machine.
pub fn command(url: &str, port: u16, attributes: Attributes) -> Result<Command> {
    let mut command = Command::new(std::env::current_exe()?);
    command.args([COMMAND, url, &port.to_string(), attributes.name()]);
    Ok(command)
}

/// A smallest handler at work. It ends with this value.
pub struct Smallest(Child);

impl Smallest {
    /// Starts the command of one, and waits until it takes connections.
    pub async fn start(mut command: Command, port: u16) -> Result<Self> {
        let mut smallest = Self(command.stdin(Stdio::null()).stdout(Stdio::null()).spawn()?);
        let deadline = tokio::time::Instant::now() + tests::product::PATIENCE;
        while tokio::net::TcpStream::connect((Ipv4Addr::LOCALHOST, port)).await.is_err() {
            let ended = smallest.0.try_wait()?;
            anyhow::ensure!(ended.is_none() && tokio::time::Instant::now() < deadline, "it does not start");
            tokio::time::sleep(std::time::Duration::from_millis(20)).await;
        }
        Ok(smallest)
    }

    /// Its process id.
    pub fn pid(&self) -> u32 {
        self.0.id()
    }
}

impl Drop for Smallest {
    fn drop(&mut self) {
        // Both fail only when it has ended by itself.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}
