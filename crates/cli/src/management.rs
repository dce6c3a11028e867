//! RabbitMQ's management API: what AMQP does not show, and the users of subscriptions' queues.
//!
//! `malote doctor` and `malote topology apply` read it. Roles need it only for subscriptions with users of their own: it makes
//! and deletes those, and nothing else.

use std::fmt;
use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow, bail, ensure};
use async_trait::async_trait;
use broker::{Cause, QueueName};
use broker_rabbitmq::{AmqpUrl, Inspect, Inspection};
use providers::auth::Secret;
use reqwest::{Certificate, Client, Method, RequestBuilder, StatusCode, Url};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Deserializer};
use serde_json::{Map, Value, json};
use subscriptions::queue;
use tokio::time::sleep;

use crate::config::{BrokerUrl, Config};
use crate::data_dir::random_hex;
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
    /// How many bytes its messages have.
    pub message_bytes: Option<u64>,
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

/// A user. Its tags are a list, in early releases a text.
#[derive(Deserialize)]
struct ManagedUser {
    name: String,
    #[serde(default)]
    tags: Value,
}

impl ManagedUser {
    fn tags_are_empty(&self) -> bool {
        matches!(&self.tags, Value::Null)
            || self.tags.as_array().is_some_and(Vec::is_empty)
            || self.tags.as_str().is_some_and(str::is_empty)
    }
}

/// What a user may do in a virtual host: a regular expression of names for each kind of operation.
#[derive(Debug, PartialEq, Eq, Deserialize)]
struct Permission {
    vhost: String,
    configure: String,
    write: String,
    read: String,
}

impl Permission {
    /// That of the user of a queue.
    fn to_read(vhost: &str, queue: &QueueName) -> Self {
        // A queue's name has no other character with a meaning in a regular expression.
        let read = format!("^{}$", queue.as_str().replace('.', "[.]"));
        Self { vhost: vhost.to_owned(), configure: "^$".to_owned(), write: "^$".to_owned(), read }
    }
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

    /// A request for `/api/<segments>`.
    fn request(&self, method: Method, segments: &[&str]) -> Result<RequestBuilder> {
        let mut url = self.base.clone();
        url.path_segments_mut()
            .map_err(|()| anyhow!("{self} is not an address of HTTP"))?
            .pop_if_empty()
            .push("api")
            .extend(segments);
        Ok(self.client.request(method, url).basic_auth(&self.user, Some(self.password.expose())))
    }

    /// The resource at `/api/<segments>`.
    pub async fn get<T: DeserializeOwned>(&self, segments: &[&str]) -> Result<T> {
        let asked = self.request(Method::GET, segments)?.send().await;
        let answered = asked.and_then(reqwest::Response::error_for_status);
        let text = async { answered?.bytes().await };
        let bytes = text.await.map_err(|error| anyhow!(chain(&error.without_url())))?;
        serde_json::from_slice(&bytes).with_context(|| format!("{self} does not answer as RabbitMQ does"))
    }

    /// Changes the resource at `/api/<segments>`. That one to be deleted does not exist is no error.
    async fn change(&self, method: Method, segments: &[&str], body: Option<Value>) -> Result<()> {
        let is_deletion = method == Method::DELETE;
        let request = self.request(method, segments)?;
        let request = body.iter().fold(request, |request, body| request.json(body));
        let answer = request.send().await.map_err(|error| anyhow!(chain(&error.without_url())))?;
        match answer.status() {
            StatusCode::NOT_FOUND if is_deletion => Ok(()),
            StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => {
                bail!("the user of broker.url may not manage users: give it the tag `administrator`")
            }
            status if status.is_success() => Ok(()),
            status => bail!("{self} answers {status}"),
        }
    }

    /// Whether a user exists that was made for this queue: nobody is granted it but by [`queue::Management::make_user`], or it
    /// has no permissions yet. Another one of its name is an error.
    async fn has_user(&self, user: &str, queue: &QueueName) -> Result<bool> {
        let users: Vec<ManagedUser> = self.get(&["users"]).await.context(
            "users are managed by the user of broker.url, which needs the tag `administrator` for that",
        )?;
        let Some(found) = users.iter().find(|found| found.name == user) else { return Ok(false) };
        let granted: Vec<Permission> = self.get(&["users", user, "permissions"]).await?;
        let ours = Permission::to_read(&self.vhost, queue);
        let is_ours = found.tags_are_empty() && granted.iter().all(|granted| *granted == ours);
        ensure!(is_ours, "RabbitMQ has a user {user} that is not of this subscription: choose another name");
        Ok(true)
    }

    /// A resource of the virtual host: `/api/<kind>/<virtual host>/<segments>`.
    pub async fn get_in_vhost<T: DeserializeOwned>(&self, kind: &str, segments: &[&str]) -> Result<T> {
        self.get(&[&[kind, self.vhost.as_str()], segments].concat()).await
    }
}

#[async_trait]
impl Inspect for Management {
    async fn inspect(&self, queue: &QueueName) -> Option<Inspection> {
        let start = Instant::now();
        let dying = loop {
            let found: ManagedQueue = self.get_in_vhost("queues", &[queue.as_str()]).await.ok()?;
            match found.messages_dlx {
                Some(dying) => break dying,
                // RabbitMQ has not counted a new queue yet.
                None if start.elapsed() < PATIENCE => sleep(Duration::from_millis(500)).await,
                None => return None,
            }
        };
        let bindings: Vec<ManagedBinding> =
            self.get_in_vhost("queues", &[queue.as_str(), "bindings"]).await.ok()?;
        let is_own = |binding: &&ManagedBinding| !binding.source.is_empty();
        Some(Inspection { dying, bindings: bindings.iter().filter(is_own).count() })
    }
}

#[async_trait]
impl queue::Management for Management {
    async fn make_user(&self, user: &str, queue: &QueueName, exchanges: &[String]) -> Result<String, Cause> {
        self.has_user(user, queue).await?;
        let password = random_hex();
        let made = json!({"password": password, "tags": ""});
        self.change(Method::PUT, &["users", user], Some(made)).await?;
        let Permission { configure, write, read, .. } = Permission::to_read(&self.vhost, queue);
        let granted = json!({"configure": configure, "write": write, "read": read});
        self.change(Method::PUT, &["permissions", &self.vhost, user], Some(granted)).await?;
        for exchange in exchanges {
            let granted = json!({"exchange": exchange, "write": "^$", "read": "^$"});
            self.change(Method::PUT, &["topic-permissions", &self.vhost, user], Some(granted)).await?;
        }
        Ok(password)
    }

    async fn delete_user(&self, user: &str, queue: &QueueName) -> Result<(), Cause> {
        match self.has_user(user, queue).await {
            Ok(true) => Ok(self.change(Method::DELETE, &["users", user], None).await?),
            Ok(false) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }

    async fn bytes(&self, queue: &QueueName) -> Option<u64> {
        self.get_in_vhost::<ManagedQueue>("queues", &[queue.as_str()]).await.ok()?.message_bytes
    }

    async fn unacked(&self, queue: &QueueName) -> Option<u64> {
        self.get_in_vhost::<ManagedQueue>("queues", &[queue.as_str()]).await.ok()?.messages_unacknowledged
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
    fn the_user_of_a_queue_may_read_it_and_nothing_else() {
        let granted = json!({"user": "crm", "vhost": "orders", "configure": "^$", "write": "^$",
            "read": "^eu[.]subscription[.]crm$"});
        let granted: Permission = serde_json::from_value(granted).unwrap();
        assert_eq!(Permission::to_read("orders", &QueueName::new("eu.subscription.crm")), granted);
        let check = |tags: Value, expect| {
            let user: ManagedUser = serde_json::from_value(json!({"name": "crm", "tags": tags})).unwrap();
            assert_eq!(user.tags_are_empty(), expect, "{tags}");
        };
        check(json!([]), true);
        check(json!(""), true);
        check(json!(["administrator"]), false);
        check(json!("administrator"), false);
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
