//! RabbitMQ's management API: what AMQP does not show.
//!
//! It is only read. `malote doctor` and `malote topology apply` use it; no role needs it.

use std::fmt;
use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow};
use async_trait::async_trait;
use broker::QueueName;
use broker_rabbitmq::{AmqpUrl, Inspect, Inspection};
use providers::auth::Secret;
use reqwest::{Certificate, Client, Url};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Deserializer};
use serde_json::{Map, Value};
use tokio::time::sleep;

use crate::config::{BrokerUrl, Config};
use crate::report::chain;

/// Time-out of an answer, and of the first count of a new queue, which comes within 10 s.
const PATIENCE: Duration = Duration::from_secs(15);

/// A client of the management API, as the user of `broker.url`.
pub struct Management {
    client: Client,
    base: Url,
    user: String,
    password: Secret,
    vhost: String,
}

/// A node of the cluster.
#[derive(Deserialize)]
pub struct Node {
    /// `rabbit@host`.
    pub name: String,
    /// Whether it is up.
    pub running: bool,
}

/// A feature flag.
#[derive(Deserialize)]
pub struct FeatureFlag {
    /// `stream_queue`.
    pub name: String,
    /// `enabled`, `disabled`, `unavailable` or `state_changing`.
    pub state: String,
    /// `stable`, `experimental` or `required`, where it is given.
    pub stability: Option<String>,
}

/// A queue. What RabbitMQ has not counted yet is absent.
#[derive(Deserialize)]
pub struct ManagedQueue {
    /// Its name.
    pub name: String,
    /// How many messages its consumers hold.
    pub messages_unacknowledged: Option<u64>,
    /// How many messages it has dead-lettered that no other queue has confirmed yet.
    pub messages_dlx: Option<u64>,
    /// What the policies that apply to it set.
    #[serde(default, deserialize_with = "settings")]
    pub effective_policy_definition: Map<String, Value>,
}

/// A binding of a queue.
#[derive(Deserialize)]
struct ManagedBinding {
    /// The exchange; empty for the binding to the default exchange that every queue has.
    source: String,
}

/// No settings may be an empty list, and not an empty object.
fn settings<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Map<String, Value>, D::Error> {
    Ok(match Value::deserialize(deserializer)? {
        Value::Object(settings) => settings,
        _ => Map::new(),
    })
}

impl fmt::Display for Management {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.base.as_str())
    }
}

impl Management {
    /// The configured API, if any.
    pub fn configured(config: &Config) -> Result<Option<Self>> {
        let (BrokerUrl::Amqp(amqp), Some(base)) = (&config.broker.url, config.broker.management_url.get())
        else {
            return Ok(None);
        };
        Self::new(base.clone(), amqp, config.broker.tls.ca.as_deref()).map(Some)
    }

    /// `ca` is a file with certificate authorities to trust besides those of the system.
    fn new(base: Url, amqp: &AmqpUrl, ca: Option<&Path>) -> Result<Self> {
        let mut builder = Client::builder().timeout(PATIENCE);
        if let Some(file) = ca {
            let unusable = || format!("cannot read the certificates of {}", file.display());
            let authorities = Certificate::from_pem_bundle(&fs::read(file).with_context(unusable)?);
            builder = builder.tls_certs_merge(authorities.with_context(unusable)?);
        }
        let client = builder.build().context("cannot make an HTTP client")?;
        let (user, password) = amqp.credentials();
        Ok(Self {
            client,
            base,
            user: user.to_owned(),
            password: Secret::from(password),
            vhost: amqp.vhost().to_owned(),
        })
    }

    /// The resource at `/api/<segments>`.
    pub async fn get<T: DeserializeOwned>(&self, segments: &[&str]) -> Result<T> {
        let mut url = self.base.clone();
        url.path_segments_mut()
            .map_err(|()| anyhow!("{self} is not an address of HTTP"))?
            .pop_if_empty()
            .push("api")
            .extend(segments);
        let asked = self.client.get(url).basic_auth(&self.user, Some(self.password.expose())).send().await;
        let answered = asked.and_then(reqwest::Response::error_for_status);
        let text = async { answered?.bytes().await };
        let bytes = text.await.map_err(|error| anyhow!(chain(&error.without_url())))?;
        serde_json::from_slice(&bytes).with_context(|| format!("{self} does not answer as RabbitMQ does"))
    }

    /// A resource of the virtual host: `/api/<kind>/<virtual host>/<segments>`.
    pub async fn of_vhost<T: DeserializeOwned>(&self, kind: &str, segments: &[&str]) -> Result<T> {
        self.get(&[&[kind, self.vhost.as_str()], segments].concat()).await
    }
}

#[async_trait]
impl Inspect for Management {
    async fn inspect(&self, queue: &QueueName) -> Option<Inspection> {
        let start = Instant::now();
        let dying = loop {
            let found: ManagedQueue = self.of_vhost("queues", &[queue.as_str()]).await.ok()?;
            match found.messages_dlx {
                Some(dying) => break dying,
                // RabbitMQ has not counted a new queue yet.
                None if start.elapsed() < PATIENCE => sleep(Duration::from_millis(500)).await,
                None => return None,
            }
        };
        let bindings: Vec<ManagedBinding> =
            self.of_vhost("queues", &[queue.as_str(), "bindings"]).await.ok()?;
        let is_own = |binding: &&ManagedBinding| !binding.source.is_empty();
        Some(Inspection { dying, bindings: bindings.iter().filter(is_own).count() })
    }
}

/// No management API is configured: nothing is known.
pub struct Unseeing;

#[async_trait]
impl Inspect for Unseeing {
    async fn inspect(&self, _: &QueueName) -> Option<Inspection> {
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_of_every_release_are_read() {
        let queue = |text: &str| serde_json::from_str::<ManagedQueue>(text).unwrap();
        let new = queue(r#"{"name": "q", "durable": true}"#);
        assert_eq!((new.messages_dlx, new.messages_unacknowledged), (None, None));
        assert!(new.effective_policy_definition.is_empty());
        for none in ["[]", "{}", "null"] {
            let row = format!(r#"{{"name": "q", "effective_policy_definition": {none}}}"#);
            assert!(queue(&row).effective_policy_definition.is_empty(), "{none}");
        }
        let row = r#"{"name": "q", "messages_unacknowledged": 3, "messages_dlx": 0,
            "effective_policy_definition": {"max-length": 5}}"#;
        let counted = queue(row);
        assert_eq!((counted.messages_dlx, counted.messages_unacknowledged), (Some(0), Some(3)));
        assert_eq!(counted.effective_policy_definition["max-length"], 5);
        let flag = r#"{"name": "stream_queue", "state": "enabled", "provided_by": "rabbit"}"#;
        assert_eq!(serde_json::from_str::<FeatureFlag>(flag).unwrap().stability, None);
    }

    #[test]
    fn a_file_of_authorities_that_cannot_be_used_is_named() {
        let amqp: AmqpUrl = "amqps://u:p@rabbit/v".parse().unwrap();
        let base = || Url::parse("https://rabbit:15671").unwrap();
        let printed = Management::new(base(), &amqp, Some(Path::new("/nowhere/ca.pem"))).err().unwrap();
        assert!(format!("{printed:#}").contains("/nowhere/ca.pem"), "{printed:#}");
        assert!(Management::new(base(), &amqp, None).is_ok());
    }
}
