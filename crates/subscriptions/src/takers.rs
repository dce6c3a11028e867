//! The push and pull subscriptions that take an event, and its outcome at each. What happens to it in a queue is the service's own
//! affair.

use std::collections::HashMap;

use event::{EventId, Timestamp};
use ledger::feed;
use serde::{Deserialize, Serialize};
use store::many::{Value, fetch};
use store::{Conditions, Connection, Dialect, Row, StoreError, id, optional_id, optional_time, time};
use utoipa::ToSchema;
use view::{Column, Form, Shown, Tone, Tones, column, shown};

use crate::table::all;
use crate::{DoorKind, Subscription};

/// The outcome of an event at a subscription.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum Taken {
    /// The service has accepted the request.
    Delivered,
    /// It waits for another attempt, or behind one of its subject.
    Waiting,
    /// Its attempts are used up.
    Undelivered,
    /// It is not delivered, and will not be: somebody has discarded it, or left out what waited.
    Discarded,
    /// It is after the position of the subscription.
    Ahead,
    /// The position of the subscription is past it. The reader has acknowledged it; or, of a push, no attempt is on record: the filter
    /// left it out, the subscription began after it, or its attempts are no longer kept.
    Passed,
}

/// The outcome of an event at a push or pull subscription whose topics have it, or which has sent it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Taker {
    /// The subscription.
    pub subscription: String,
    /// Its door.
    pub door: DoorKind,
    /// The outcome.
    pub state: Taken,
    /// How often it was sent, as far as that is on record.
    pub attempts: i64,
    /// The last attempt.
    #[schema(value_type = Option<String>, format = DateTime)]
    pub last_at: Option<Timestamp>,
    /// When the next attempt is due.
    #[schema(value_type = Option<String>, format = DateTime)]
    pub due_at: Option<Timestamp>,
    /// Why the last attempt failed.
    pub error: Option<String>,
}

/// What the states mean to those who read them.
const TONES: Tones = &[
    ("delivered", Tone::Good),
    ("passed", Tone::Good),
    ("ahead", Tone::Waiting),
    ("waiting", Tone::Waiting),
    ("undelivered", Tone::Bad),
];

impl Shown for Taker {
    const COLUMNS: &'static [Column<Self>] = &[
        column("Subscription", |row| shown(&row.subscription), Form::Text),
        column("Door", |row| shown(&row.door), Form::Text),
        column("State", |row| shown(&row.state), Form::State(TONES)),
        column("Attempts", |row| shown(&row.attempts), Form::Number),
        column("Last attempt", |row| shown(&row.last_at), Form::Time),
        column("Next attempt", |row| shown(&row.due_at), Form::Time),
        column("Error", |row| shown(&row.error), Form::Text),
    ];
}

/// The attempts of an event at one subscription.
#[derive(Default)]
struct Tried {
    attempts: i64,
    last_at: Option<Timestamp>,
    error: Option<String>,
    is_delivered: bool,
}

/// The subscriptions that take an event, by name. None take a duplicate.
pub async fn takers(connection: &mut Connection, event: EventId) -> Result<Vec<Taker>, StoreError> {
    let text = "SELECT o.provider, o.topic, e.duplicate_of FROM events e JOIN origins o ON o.id = e.origin WHERE e.id = $1";
    let rows = fetch(connection, text.to_owned(), [Value::from(event)]).await?;
    let Some(row) = rows.first() else { return Ok(Vec::new()) };
    let (provider, topic): (String, String) = (row.try_get("provider")?, row.try_get("topic")?);
    let is_duplicate = optional_id(row, "duplicate_of")?.is_some();
    let mut tried = tried(connection, event).await?;
    let mut takers = Vec::new();
    for subscription in all(connection).await? {
        let Ok(door) = subscription.door().map(|door| door.kind()) else { continue };
        let tried = tried.remove(&subscription.id);
        let topics = subscription.declaration.topics().unwrap_or_default();
        let is_wanted = !is_duplicate && topics.take_topic(&provider, &topic);
        if door == DoorKind::Queue || !is_wanted && tried.is_none() {
            continue;
        }
        takers.push(taker(connection, event, &subscription, door, tried.unwrap_or_default()).await?);
    }
    Ok(takers)
}

/// The attempts of an event, by subscription.
async fn tried(connection: &mut Connection, event: EventId) -> Result<HashMap<EventId, Tried>, StoreError> {
    let text =
        "SELECT subscription, at, status, error FROM delivery_attempts WHERE event_id = $1 ORDER BY at";
    let mut tried: HashMap<EventId, Tried> = HashMap::new();
    for row in fetch(connection, text.to_owned(), [Value::from(event)]).await? {
        let one = tried.entry(id(&row, "subscription")?).or_default();
        let status: Option<i64> = row.try_get("status")?;
        one.attempts += 1;
        one.last_at = Some(time(&row, "at")?);
        one.error = row.try_get("error")?;
        one.is_delivered |= one.error.is_none() && status.is_some_and(|status| (200..300).contains(&status));
    }
    Ok(tried)
}

async fn taker(
    connection: &mut Connection,
    event: EventId,
    subscription: &Subscription,
    door: DoorKind,
    tried: Tried,
) -> Result<Taker, StoreError> {
    let text = "SELECT due_at FROM deliveries WHERE subscription = $1 AND event_id = $2".to_owned();
    let rows = fetch(connection, text, [Value::from(subscription.id), event.into()]).await?;
    let row = rows.first().map(|row| optional_time(row, "due_at")).transpose()?;
    let mut conditions = Conditions::default();
    conditions.with("e.id =", Some(event));
    let is_after =
        feed::is_after(Dialect::from_connection(connection), &subscription.cursor, &mut conditions);
    conditions.add(is_after);
    let text = format!("SELECT 1 FROM events e {}", conditions.clause());
    let is_ahead = !fetch(connection, text, conditions.values).await?.is_empty();
    let Tried { attempts, last_at, error, is_delivered } = tried;
    let state = match row {
        Some(None) => Taken::Undelivered,
        Some(Some(_)) => Taken::Waiting,
        None if is_delivered => Taken::Delivered,
        None if is_ahead => Taken::Ahead,
        None if attempts > 0 => Taken::Discarded,
        None => Taken::Passed,
    };
    let subscription = subscription.name().to_string();
    Ok(Taker { subscription, door, state, attempts, last_at, due_at: row.flatten(), error })
}
