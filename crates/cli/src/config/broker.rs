//! `[broker]`: which broker, and under which names.

use std::path::PathBuf;
use std::str::FromStr;

use broker_rabbitmq::{AmqpUrl, AmqpUrlError};
use serde::Deserialize;

use super::check::{DAY_MS, Mistake, Section, lone_half, out_of_range};
use super::management_url::ManagementUrl;

/// Which broker, and under which names.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Broker {
    /// Its address.
    pub url: BrokerUrl,
    /// The file that the password of the URL was read from. Every new connection reads it again.
    #[serde(skip)]
    pub password_file: Option<PathBuf>,
    /// Allows RabbitMQ over the network without TLS.
    pub insecure: bool,
    /// The TLS settings of RabbitMQ.
    #[serde(default)]
    pub tls: event::ClientTls,
    /// The prefix of every name.
    pub prefix: String,
    /// The address of RabbitMQ's management API, if it may be used.
    pub management_url: ManagementUrl,
    /// Time-out of connecting to a host.
    pub connection_timeout_ms: u64,
    /// Time-out of a publish.
    pub confirm_timeout_ms: u64,
    /// How many channels publish.
    pub channels: usize,
    /// How many publishes one channel has in flight.
    pub window: usize,
    /// The interval of heartbeats.
    pub heartbeat_s: u16,
}

impl Section for Broker {
    fn mistakes(&self) -> Vec<Mistake> {
        let mut mistakes = out_of_range(&[
            ("connection_timeout_ms", self.connection_timeout_ms, DAY_MS),
            ("confirm_timeout_ms", self.confirm_timeout_ms, DAY_MS),
            // Each place of each window has its memory from the start.
            ("channels", self.channels as u64, 64),
            ("window", self.window as u64, 8_192),
        ]);
        if matches!(&self.url, BrokerUrl::Amqp(url) if url.is_exposed()) && !self.insecure {
            mistakes.push(Mistake::new(
                "url",
                "leads over the network without TLS, which shows the password and every event; use amqps://, or allow it \
                 with broker.insecure = true",
            ));
        }
        let is_asked = matches!(self.url, BrokerUrl::Amqp(_));
        if is_asked && self.management_url.is_exposed() && !self.insecure {
            mistakes.push(Mistake::new(
                "management_url",
                "leads over the network without TLS, which shows the password of broker.url; use https://, or allow it with \
                 broker.insecure = true",
            ));
        }
        mistakes.extend(lone_half("tls", self.tls.certificate.is_some(), self.tls.key.is_some()));
        let is_allowed = |c: char| c.is_ascii_alphanumeric() || "-_.".contains(c);
        if self.prefix.len() > 64 || !self.prefix.chars().all(is_allowed) {
            mistakes.push(Mistake::new("prefix", "takes at most 64 letters, digits, '-', '_' and '.'"));
        }
        mistakes
    }
}

impl Broker {
    /// The settings of RabbitMQ at this address.
    pub fn rabbitmq(&self, url: AmqpUrl) -> broker_rabbitmq::Config {
        broker_rabbitmq::Config {
            connection_timeout_ms: self.connection_timeout_ms,
            confirm_timeout_ms: self.confirm_timeout_ms,
            channels: self.channels,
            window: self.window,
            heartbeat_s: self.heartbeat_s,
            tls: self.tls.clone(),
            password_file: self.password_file.clone(),
            ..broker_rabbitmq::Config::new(url)
        }
    }
}

/// The address of the broker.
#[derive(Clone, Debug, Deserialize)]
#[serde(try_from = "String")]
pub enum BrokerUrl {
    /// In this process, with its file in the data directory.
    Embedded,
    /// RabbitMQ.
    Amqp(AmqpUrl),
}

/// The text is neither "embedded" nor a URL of RabbitMQ.
#[derive(Debug, thiserror::Error)]
#[error("{0}; allowed: \"embedded\" or \"amqp://user:password@host:5672/vhost\"")]
pub struct NotABroker(AmqpUrlError);

impl TryFrom<String> for BrokerUrl {
    type Error = NotABroker;

    fn try_from(text: String) -> Result<Self, NotABroker> {
        match text.as_str() {
            "embedded" => Ok(Self::Embedded),
            url => AmqpUrl::from_str(url).map(Self::Amqp).map_err(NotABroker),
        }
    }
}
