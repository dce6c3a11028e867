//! What a service asks for, as one value: in the store as JSON, in a file as TOML, in the API as JSON.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use event::SubscriptionName;
use ledger::feed::{BadTopics, Topics};
use serde::{Deserialize, Serialize};

use crate::expression::{Expression, ExpressionError};

/// A subscription as it was asked for. It has no secrets; see [`crate::Secrets`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Declaration {
    /// Its name.
    #[schema(value_type = String)]
    pub name: SubscriptionName,
    /// The topics: `provider:pattern`, such as `mercado-eletronico:order.*`, with patterns as AMQP has them.
    pub topics: Vec<String>,
    /// Which events of these topics, as a CEL expression over `event` and `data`; without it all of them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub filter: Option<String>,
    /// What is sent instead of the event's data, as a CEL expression.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub transform: Option<String>,
    /// HTTP requests to the service.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub push: Option<Push>,
    /// The service reads by itself, with a cursor.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pull: Option<Pull>,
    /// A queue of the broker.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub queue: Option<QueueDoor>,
}

/// How events get to the service.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Door<'a> {
    /// HTTP requests to the service.
    Push(&'a Push),
    /// The service reads by itself.
    Pull(&'a Pull),
    /// A queue of the broker.
    Queue(&'a QueueDoor),
}

store::stored_enum! {
    /// The kind of a door.
    #[derive(Serialize, Deserialize, utoipa::ToSchema)]
    #[serde(rename_all = "snake_case")]
    DoorKind {
        /// HTTP requests to the service.
        Push = "push",
        /// The service reads by itself.
        Pull = "pull",
        /// A queue of the broker.
        Queue = "queue",
    }
}

/// The push door.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Push {
    /// Where the requests go.
    pub url: String,
    /// The names of the headers that every request has besides; their values are secrets.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub headers: Vec<String>,
    /// How requests are authenticated, besides their signature.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub auth: Option<Auth>,
    /// How long a request may take, in milliseconds.
    #[serde(default = "default_timeout_ms")]
    pub timeout_ms: u64,
    /// The most requests at a time.
    #[serde(default = "default_concurrency")]
    pub concurrency: u32,
    /// The most requests in a second.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rate_per_s: Option<u32>,
    /// How long to wait before each further attempt, such as `30s` or `2h`. After the last one an event is undelivered.
    #[serde(default = "default_retry")]
    #[schema(value_type = Vec<String>)]
    pub retry: Vec<Wait>,
    /// Which events are sent one after another.
    #[serde(default)]
    pub order: Order,
    /// The most events in one request; more than 1 makes every request a CloudEvents batch.
    #[serde(default = "default_batch_events")]
    pub batch_events: u32,
    /// TLS settings of this endpoint.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tls: Option<Tls>,
}

/// The pull door.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Pull {}

/// The queue door.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub struct QueueDoor {
    /// The user of RabbitMQ that may read this queue and nothing else.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub user: Option<String>,
}

/// How requests are authenticated. The secret part is [`crate::Secrets::auth`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum Auth {
    /// HTTP Basic.
    Basic {
        /// The user name.
        username: String,
    },
    /// A fixed bearer token.
    Bearer {},
    /// A bearer token by OAuth 2 client credentials.
    Oauth2 {
        /// Where tokens are requested.
        token_url: String,
        /// The client.
        client_id: String,
        /// The scope, if one is asked for.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        scope: Option<String>,
    },
}

/// Which events are sent one after another.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum Order {
    /// None: they are sent side by side.
    #[default]
    None,
    /// Those of one subject, in the order of their receipt.
    Subject,
}

/// TLS settings of an endpoint, PEM. The key of the certificate is [`crate::Secrets::tls_key`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Tls {
    /// The authorities to trust instead of those of the system.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ca: Option<String>,
    /// The certificate that the client shows.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub certificate: Option<String>,
}

/// A wait, as text: `500ms`, `30s`, `5m`, `2h`, `1d`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Wait(pub Duration);

/// The longest wait of a schedule: 7 days.
const LONGEST_WAIT: Duration = Duration::from_secs(7 * 86_400);

const fn seconds(seconds: u64) -> Wait {
    Wait(Duration::from_secs(seconds))
}

/// The waits of Standard Webhooks' recommended schedule, which ends after two days.
pub const DEFAULT_RETRY: [Wait; 8] = [
    seconds(5),
    seconds(30),
    seconds(300),
    seconds(1_800),
    seconds(7_200),
    seconds(18_000),
    seconds(36_000),
    seconds(86_400),
];

fn default_timeout_ms() -> u64 {
    15_000
}

fn default_concurrency() -> u32 {
    8
}

fn default_retry() -> Vec<Wait> {
    DEFAULT_RETRY.to_vec()
}

fn default_batch_events() -> u32 {
    1
}

/// Why a declaration cannot be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BadDeclaration {
    /// It has no door, or several.
    #[error("a subscription has exactly one of push, pull and queue")]
    Door,
    /// It names no topics.
    #[error("topics: name at least one, such as mercado-eletronico:order.*")]
    NoTopics,
    /// A topic is malformed.
    #[error("topics: {0}")]
    Topics(#[from] BadTopics),
    /// A number is out of its range.
    #[error("push.{field}: expected {from} to {to}, got {found}")]
    Range {
        /// The field.
        field: &'static str,
        /// The least.
        from: u64,
        /// The most.
        to: u64,
        /// What was given.
        found: u64,
    },
    /// The schedule is too long.
    #[error("push.retry: at most {most} waits, got {found}")]
    Retry {
        /// The most waits.
        most: usize,
        /// How many were given.
        found: usize,
    },
    /// The name of a header cannot be used.
    #[error("push.headers: {0:?} is no header that can be set")]
    Header(String),
    /// The filter or transform is no expression.
    #[error("{field}: {error}")]
    Expression {
        /// The field.
        field: &'static str,
        /// What is wrong, and where.
        error: ExpressionError,
    },
    /// A transform where there is none.
    #[error("transform: a reader gets events as they are; use push")]
    PullTransform,
    /// A filter or transform where there is none.
    #[error("{0}: a queue has every event of its topics as it is; use push or pull")]
    QueueExpression(&'static str),
}

/// The most waits of a schedule.
const MOST_WAITS: usize = 32;

impl Declaration {
    /// The door. A declaration that was not checked may have none.
    pub fn door(&self) -> Result<Door<'_>, BadDeclaration> {
        match (&self.push, &self.pull, &self.queue) {
            (Some(push), None, None) => Ok(Door::Push(push)),
            (None, Some(pull), None) => Ok(Door::Pull(pull)),
            (None, None, Some(queue)) => Ok(Door::Queue(queue)),
            _ => Err(BadDeclaration::Door),
        }
    }

    /// The topics, as the feed takes them.
    pub fn topics(&self) -> Result<Topics, BadDeclaration> {
        match self.topics.as_slice() {
            [] => Err(BadDeclaration::NoTopics),
            topics => Ok(topics.join(",").parse()?),
        }
    }

    /// Checks everything but the address.
    pub fn check(&self) -> Result<(), BadDeclaration> {
        self.topics()?.check()?;
        let bad = |field| move |error| BadDeclaration::Expression { field, error };
        self.filter.as_deref().map(Expression::filter).transpose().map_err(bad("filter"))?;
        self.transform.as_deref().map(Expression::transform).transpose().map_err(bad("transform"))?;
        match self.door()? {
            Door::Push(push) => push.check(),
            Door::Pull(_) if self.transform.is_some() => Err(BadDeclaration::PullTransform),
            Door::Pull(_) => Ok(()),
            Door::Queue(_) if self.filter.is_some() => Err(BadDeclaration::QueueExpression("filter")),
            Door::Queue(_) if self.transform.is_some() => Err(BadDeclaration::QueueExpression("transform")),
            Door::Queue(_) => Ok(()),
        }
    }
}

impl Door<'_> {
    /// Its kind.
    pub fn kind(&self) -> DoorKind {
        match self {
            Self::Push(_) => DoorKind::Push,
            Self::Pull(_) => DoorKind::Pull,
            Self::Queue(_) => DoorKind::Queue,
        }
    }
}

impl Push {
    /// A door with the defaults.
    pub fn new(url: impl Into<String>) -> Self {
        Self {
            url: url.into(),
            headers: Vec::new(),
            auth: None,
            timeout_ms: default_timeout_ms(),
            concurrency: default_concurrency(),
            rate_per_s: None,
            retry: default_retry(),
            order: Order::default(),
            batch_events: default_batch_events(),
            tls: None,
        }
    }

    fn check(&self) -> Result<(), BadDeclaration> {
        let range = |field, found: u64, from, to| match (from..=to).contains(&found) {
            true => Ok(()),
            false => Err(BadDeclaration::Range { field, from, to, found }),
        };
        range("timeout_ms", self.timeout_ms, 100, 120_000)?;
        range("concurrency", self.concurrency.into(), 1, 256)?;
        range("rate_per_s", self.rate_per_s.unwrap_or(1).into(), 1, 100_000)?;
        range("batch_events", self.batch_events.into(), 1, 1_000)?;
        if self.retry.len() > MOST_WAITS {
            return Err(BadDeclaration::Retry { most: MOST_WAITS, found: self.retry.len() });
        }
        let bad = self.headers.iter().find(|header| outbound::header_name(header).is_err());
        bad.map_or(Ok(()), |header| Err(BadDeclaration::Header(header.clone())))
    }
}

/// The text is not a wait.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("expected a wait such as 30s, 5m or 2h, at most 7d, got {0:?}")]
pub struct BadWait(String);

impl FromStr for Wait {
    type Err = BadWait;

    fn from_str(text: &str) -> Result<Self, BadWait> {
        let bad = || BadWait(text.chars().take(40).collect());
        let digits = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
        let (number, unit) = text.split_at(digits);
        let number: u64 = number.parse().map_err(|_| bad())?;
        let milliseconds = match unit {
            "ms" => Some(1),
            "s" => Some(1_000),
            "m" => Some(60_000),
            "h" => Some(3_600_000),
            "d" => Some(86_400_000),
            _ => None,
        };
        let milliseconds = milliseconds.and_then(|unit: u64| number.checked_mul(unit)).ok_or_else(bad)?;
        Some(Duration::from_millis(milliseconds))
            .filter(|wait| *wait <= LONGEST_WAIT)
            .map(Self)
            .ok_or_else(bad)
    }
}

impl fmt::Display for Wait {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let milliseconds = self.0.as_millis();
        let units = [(86_400_000, "d"), (3_600_000, "h"), (60_000, "m"), (1_000, "s")];
        match units.into_iter().find(|(unit, _)| milliseconds > 0 && milliseconds.is_multiple_of(*unit)) {
            Some((unit, name)) => write!(f, "{}{name}", milliseconds / unit),
            None => write!(f, "{milliseconds}ms"),
        }
    }
}

impl TryFrom<String> for Wait {
    type Error = BadWait;

    fn try_from(text: String) -> Result<Self, BadWait> {
        text.parse()
    }
}

impl From<Wait> for String {
    fn from(wait: Wait) -> Self {
        wait.to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn declaration(json: &str) -> Declaration {
        serde_json::from_str(json).unwrap()
    }

    #[test]
    fn a_declaration_has_exactly_one_door_and_survives_its_json() {
        let push =
            r#"{"name":"crm","topics":["recuperador:acordo.#"],"push":{"url":"https://crm.example/hooks"}}"#;
        let read = declaration(push);
        assert_eq!(read.check(), Ok(()));
        assert_eq!(read.push.as_ref().unwrap().retry, DEFAULT_RETRY);
        assert_eq!(declaration(&serde_json::to_string(&read).unwrap()), read);
        for doors in ["", r#","pull":{},"queue":{}"#] {
            let text = format!(r#"{{"name":"crm","topics":["recuperador:#"]{doors}}}"#);
            assert_eq!(declaration(&text).check(), Err(BadDeclaration::Door));
        }
    }

    #[test]
    fn what_cannot_work_is_refused_by_name() {
        let check = |change: &dyn Fn(&mut Declaration), expect: &str| {
            let mut declaration = declaration(
                r#"{"name":"crm","topics":["recuperador:#"],"push":{"url":"https://crm.example/"}}"#,
            );
            change(&mut declaration);
            assert_eq!(declaration.check().unwrap_err().to_string(), expect);
        };
        check(&|one| one.topics.clear(), "topics: name at least one, such as mercado-eletronico:order.*");
        let push = |one: &mut Declaration, change: &dyn Fn(&mut Push)| change(one.push.as_mut().unwrap());
        check(
            &|one| one.topics = vec!["gestao-online:ORDER_*".to_owned()],
            "topics: \"ORDER_*\" matches no topic: `*` is one whole word between dots and `#` any number of words, so \
             \"ORDER_*\" is only itself; name each topic, such as ORDER_CREATED, or use `#` for all of them",
        );
        check(&|one| push(one, &|push| push.concurrency = 0), "push.concurrency: expected 1 to 256, got 0");
        for header in ["Ce-Id", "Webhook-Signature", "Content-Type", "Upgrade", "not a name"] {
            check(
                &|one| push(one, &|push| push.headers = vec![header.to_owned()]),
                &format!("push.headers: {header:?} is no header that can be set"),
            );
        }
        check(
            &|one| {
                one.push = None;
                one.queue = Some(QueueDoor::default());
                one.filter = Some("true".to_owned());
            },
            "filter: a queue has every event of its topics as it is; use push or pull",
        );
    }

    #[test]
    fn a_wait_survives_its_text() {
        for text in ["500ms", "5s", "90s", "5m", "2h", "1d", "0ms"] {
            assert_eq!(text.parse::<Wait>().unwrap().to_string(), text);
        }
        assert_eq!("60s".parse::<Wait>().unwrap().to_string(), "1m");
        for text in ["", "5", "s", "-1s", "8d", "99999999999999999999d", "5 s"] {
            assert!(text.parse::<Wait>().is_err(), "{text:?}");
        }
    }
}
