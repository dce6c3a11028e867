//! What an operator does with events that a push subscription did not take: sends them again, or discards them.
//!
//! Both go on in parts, each a transaction of its own: a period can have any number of events, and on the embedded database the
//! ledger waits for the same writer. The answer to a part says where the next one begins.

use event::{EventId, SubscriptionName, Timestamp};
use serde::{Deserialize, Serialize};
use store::many::{Value, fetch};
use store::{Conditions, Connection, Row, Store, StoreError, Tx, cursor, id};
use utoipa::ToSchema;

use crate::outcomes::{has_error, last_attempt};
use crate::table::{commit, get, locked};
use crate::{Subscription, SubscriptionError};

/// How many rows a part looks at.
pub(crate) const PART: u32 = 5_000;

/// Which events are sent again to a push subscription: all that is given must fit.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Resending {
    /// The subscription.
    #[schema(value_type = String)]
    pub subscription: SubscriptionName,
    /// Only this event.
    #[serde(default)]
    #[schema(value_type = Option<String>)]
    pub id: Option<EventId>,
    /// Only events received at this time or later.
    #[serde(default)]
    #[schema(value_type = Option<String>, format = DateTime)]
    pub from: Option<Timestamp>,
    /// Only events received before this time.
    #[serde(default)]
    #[schema(value_type = Option<String>, format = DateTime)]
    pub to: Option<Timestamp>,
    /// Only events of this topic.
    #[serde(default)]
    pub topic: Option<String>,
    /// Only events whose last attempt was answered with this status.
    #[serde(default)]
    pub status: Option<i64>,
    /// Only events with this text in the error of their last attempt.
    #[serde(default)]
    pub error: Option<String>,
    /// Send those that were delivered once more, too.
    #[serde(default)]
    pub again: bool,
    /// Only count them.
    #[serde(default)]
    pub dry_run: bool,
    /// The `next` of the previous part.
    #[serde(default)]
    pub after: Option<String>,
}

/// Which undelivered events are discarded: all that is given must fit.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Discarding {
    /// The subscription.
    #[schema(value_type = String)]
    pub subscription: SubscriptionName,
    /// Only this event.
    #[serde(default)]
    #[schema(value_type = Option<String>)]
    pub id: Option<EventId>,
    /// Only events received at this time or later.
    #[serde(default)]
    #[schema(value_type = Option<String>, format = DateTime)]
    pub from: Option<Timestamp>,
    /// Only events received before this time.
    #[serde(default)]
    #[schema(value_type = Option<String>, format = DateTime)]
    pub to: Option<Timestamp>,
    /// Only events of this topic.
    #[serde(default)]
    pub topic: Option<String>,
    /// Only events whose last attempt was answered with this status.
    #[serde(default)]
    pub status: Option<i64>,
    /// Only events with this text in the error of their last attempt.
    #[serde(default)]
    pub error: Option<String>,
    /// Why; the audit has it. Counting needs none.
    #[serde(default)]
    pub reason: String,
    /// Only count them.
    #[serde(default)]
    pub dry_run: bool,
    /// The `next` of the previous part.
    #[serde(default)]
    pub after: Option<String>,
}

/// What was done in one part.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Closed {
    /// How many events were sent again or discarded, or would be.
    pub total: i64,
    /// Where the next part begins: repeat the request with it as `after`. Null once everything is done.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next: Option<String>,
}

/// What a filter says of an event and its last attempt.
struct Only<'a> {
    id: Option<EventId>,
    from: Option<Timestamp>,
    to: Option<Timestamp>,
    topic: Option<&'a str>,
    status: Option<i64>,
    error: Option<&'a str>,
}

/// How far it is: first the events that have a row, in the order of their ids; then, when events are sent again, those that were
/// delivered, in the order of their attempts.
struct Place {
    /// Attempts since then are of what was sent again.
    began: Timestamp,
    /// The last attempt that was looked at; `None` while rows are.
    at: Option<i64>,
    after: EventId,
}

/// Before every event.
fn first() -> EventId {
    EventId::from_bytes([0; 16])
}

impl Place {
    /// Reads a `next`. Another text just begins again.
    fn read(text: Option<&str>) -> Self {
        let mut parts = cursor::read(text.unwrap_or_default(), 3);
        let mut part = || parts.next().unwrap_or_default();
        let began = part().parse().ok().and_then(|at| Timestamp::from_microsecond(at).ok());
        let (at, after) = (part().parse().ok(), part().parse().unwrap_or_else(|_| first()));
        Self { began: began.unwrap_or_else(event::now), at, after }
    }

    fn write(&self) -> String {
        let at = self.at.map(|at| at.to_string()).unwrap_or_default();
        cursor::write(&[self.began.as_microsecond().to_string(), at, self.after.to_string()])
    }
}

impl Resending {
    fn only(&self) -> Only<'_> {
        let Self { id, from, to, topic, status, error, .. } = self;
        let (topic, error) = (topic.as_deref(), error.as_deref());
        Only { id: *id, from: *from, to: *to, topic, status: *status, error }
    }
}

impl Discarding {
    fn only(&self) -> Only<'_> {
        let Self { id, from, to, topic, status, error, .. } = self;
        let (topic, error) = (topic.as_deref(), error.as_deref());
        Only { id: *id, from: *from, to: *to, topic, status: *status, error }
    }
}

impl Only<'_> {
    /// The conditions on rows `d` of a subscription in a part.
    fn row_conditions(&self, subscription: EventId, after: EventId, last: Option<EventId>) -> Conditions {
        let mut conditions = Conditions::default();
        conditions.with("d.subscription =", Some(subscription));
        conditions.with("d.event_id >", Some(after));
        conditions.with("d.event_id <=", last);
        conditions.with("d.event_id =", self.id);
        conditions.with("d.received_at >=", self.from);
        conditions.with("d.received_at <", self.to);
        if let Some(topic) = self.topic {
            let topic = conditions.bind(Value::from(&topic));
            conditions.add(format!(
                "EXISTS (SELECT 1 FROM events e JOIN origins o ON o.id = e.origin WHERE e.id = d.event_id AND o.topic = {topic})"
            ));
        }
        conditions.with(&format!("{} =", last_attempt("status")), self.status);
        has_error(&mut conditions, &last_attempt("error"), self.error);
        conditions
    }

    /// The conditions on attempts `a` in a part that are the last ones of an event `e` without a row, of the topic `o`.
    fn attempt_conditions(
        &self,
        subscription: EventId,
        place: &Place,
        last: Option<(i64, EventId)>,
    ) -> Conditions {
        let mut conditions = self.attempts(subscription, place);
        if let Some((at, event)) = last {
            let last = (conditions.bind(at.into()), conditions.bind(event.into()));
            conditions.add(format!("(a.at, a.event_id) <= ({}, {})", last.0, last.1));
        }
        conditions.with("e.received_at >=", self.from);
        conditions.with("e.received_at <", self.to);
        conditions.with("o.topic =", self.topic.map(|topic| Value::from(&topic)));
        conditions.with("a.status =", self.status);
        has_error(&mut conditions, "a.error", self.error);
        conditions.add(
            "NOT EXISTS (SELECT 1 FROM delivery_attempts b WHERE b.event_id = a.event_id \
             AND b.subscription = a.subscription AND b.at > a.at)",
        );
        conditions.add(
            "NOT EXISTS (SELECT 1 FROM deliveries d WHERE d.subscription = a.subscription AND d.event_id = a.event_id)",
        );
        conditions
    }

    /// The conditions on attempts `a` from a place on.
    fn attempts(&self, subscription: EventId, place: &Place) -> Conditions {
        let mut conditions = Conditions::default();
        conditions.with("a.subscription =", Some(subscription));
        conditions.with("a.event_id =", self.id);
        // No attempt is before the receipt.
        conditions.with("a.at >=", self.from);
        conditions.with("a.at <", Some(place.began));
        let after =
            (conditions.bind(place.at.unwrap_or_default().into()), conditions.bind(place.after.into()));
        conditions.add(format!("(a.at, a.event_id) > ({}, {})", after.0, after.1));
        conditions
    }

    /// The last row of a full part.
    async fn last_row(
        &self,
        connection: &mut Connection,
        subscription: EventId,
        after: EventId,
    ) -> Result<Option<EventId>, StoreError> {
        let mut conditions = Conditions::default();
        conditions.with("d.subscription =", Some(subscription));
        conditions.with("d.event_id >", Some(after));
        conditions.with("d.event_id =", self.id);
        let text = format!(
            "SELECT d.event_id FROM deliveries d {} ORDER BY d.event_id LIMIT 1 OFFSET {}",
            conditions.clause(),
            PART - 1
        );
        let rows = fetch(connection, text, conditions.values).await?;
        rows.first().map(|row| id(row, 0)).transpose()
    }

    /// The last attempt of a full part.
    async fn last_attempt(
        &self,
        connection: &mut Connection,
        subscription: EventId,
        place: &Place,
    ) -> Result<Option<(i64, EventId)>, StoreError> {
        let conditions = self.attempts(subscription, place);
        let text = format!(
            "SELECT a.at, a.event_id FROM delivery_attempts a {} ORDER BY a.at, a.event_id LIMIT 1 OFFSET {}",
            conditions.clause(),
            PART - 1
        );
        let rows = fetch(connection, text, conditions.values).await?;
        rows.first().map(|row| Ok((row.try_get("at")?, id(row, "event_id")?))).transpose()
    }
}

/// Sends the events of one part again at once, each with a new schedule; or with `dry_run` only counts them.
pub async fn resend(store: &Store, asked: &Resending) -> Result<Closed, SubscriptionError> {
    if asked.dry_run {
        let known = known(store, &asked.subscription).await?;
        return Ok(resend_part(&mut *store.read().await?, known.id, asked).await?);
    }
    let mut tx = store.begin().await?;
    // What works on the subscription reads its rows again.
    let known = locked(&mut tx, &asked.subscription).await?;
    let closed = resend_part(&mut tx, known.id, asked).await?;
    commit(tx).await?;
    Ok(closed)
}

async fn known(store: &Store, name: &SubscriptionName) -> Result<Subscription, SubscriptionError> {
    get(store, name).await?.ok_or_else(|| SubscriptionError::Unknown(name.clone()))
}

async fn resend_part(
    connection: &mut Connection,
    own: EventId,
    asked: &Resending,
) -> Result<Closed, StoreError> {
    let (only, mut place) = (asked.only(), Place::read(asked.after.as_deref()));
    let mut total = 0;
    if place.at.is_none() {
        let last = only.last_row(connection, own, place.after).await?;
        let mut conditions = only.row_conditions(own, place.after, last);
        let now = conditions.bind(event::now().into());
        // What is due is being sent.
        conditions.add(format!("(d.due_at IS NULL OR d.due_at > {now})"));
        let change = format!("UPDATE deliveries AS d SET due_at = {now}, steps = 0");
        total += changed(connection, &change, "deliveries d", conditions, asked.dry_run).await?;
        if let Some(last) = last {
            place.after = last;
            return Ok(Closed { total, next: Some(place.write()) });
        }
        (place.at, place.after) = (Some(0), first());
    }
    if !asked.again {
        return Ok(Closed { total, next: None });
    }
    let last = only.last_attempt(connection, own, &place).await?;
    let mut conditions = only.attempt_conditions(own, &place, last);
    let from = "delivery_attempts a JOIN events e ON e.id = a.event_id JOIN origins o ON o.id = e.origin";
    let change = if asked.dry_run {
        String::new()
    } else {
        let now = conditions.bind(event::now().into());
        format!(
            "INSERT INTO deliveries (subscription, event_id, subject, received_at, attempts, steps, due_at) \
             SELECT a.subscription, e.id, e.subject, e.received_at, a.attempt, 0, CAST({now} AS BIGINT) FROM {from}"
        )
    };
    total += changed(connection, &change, from, conditions, asked.dry_run).await?;
    let next = last.map(|(at, after)| Place { at: Some(at), after, ..place }.write());
    Ok(Closed { total, next })
}

/// Changes the rows that fit, or only counts them.
async fn changed(
    connection: &mut Connection,
    change: &str,
    from: &str,
    conditions: Conditions,
    is_dry: bool,
) -> Result<i64, StoreError> {
    let clause = conditions.clause();
    if is_dry {
        let rows =
            fetch(connection, format!("SELECT count(*) FROM {from} {clause}"), conditions.values).await?;
        return Ok(rows[0].try_get(0)?);
    }
    let rows = fetch(connection, format!("{change} {clause} RETURNING event_id"), conditions.values).await?;
    Ok(i64::try_from(rows.len()).unwrap_or(i64::MAX))
}

/// Discards the undelivered events of one part: they are listed no more. Their attempts stay on record. With `dry_run` only
/// counts them.
pub async fn discard(store: &Store, asked: &Discarding) -> Result<Closed, SubscriptionError> {
    let own = known(store, &asked.subscription).await?.id;
    if asked.dry_run {
        return Ok(discard_part(&mut *store.read().await?, own, asked).await?);
    }
    let mut tx: Tx = store.begin().await?;
    let closed = discard_part(&mut tx, own, asked).await?;
    commit(tx).await?;
    Ok(closed)
}

async fn discard_part(
    connection: &mut Connection,
    own: EventId,
    asked: &Discarding,
) -> Result<Closed, StoreError> {
    let (only, mut place) = (asked.only(), Place::read(asked.after.as_deref()));
    let last = only.last_row(connection, own, place.after).await?;
    let mut conditions = only.row_conditions(own, place.after, last);
    conditions.add("d.due_at IS NULL");
    let total =
        changed(connection, "DELETE FROM deliveries AS d", "deliveries d", conditions, asked.dry_run).await?;
    let next = last.map(|last| {
        place.after = last;
        place.write()
    });
    Ok(Closed { total, next })
}

/// Deletes undelivered events that are no longer on record, once their attempts are not either: nothing of them can be sent or
/// shown. Gives how many.
pub(crate) async fn sweep(store: &Store) -> Result<usize, StoreError> {
    let gone = format!(
        "SELECT d.subscription, d.event_id FROM deliveries d WHERE d.due_at IS NULL \
         AND NOT EXISTS (SELECT 1 FROM events e WHERE e.id = d.event_id) \
         AND NOT EXISTS (SELECT 1 FROM delivery_attempts a WHERE a.event_id = d.event_id AND a.subscription = d.subscription) \
         LIMIT {PART}"
    );
    let mut deleted = 0;
    // Looked for without the writer's turn.
    while !fetch(&mut *store.read().await?, gone.clone(), []).await?.is_empty() {
        let text = format!(
            "DELETE FROM deliveries WHERE due_at IS NULL AND (subscription, event_id) IN ({gone}) RETURNING event_id"
        );
        let mut tx = store.begin().await?;
        let rows = fetch(&mut tx, text, []).await?;
        commit(tx).await?;
        deleted += rows.len();
        if rows.len() < PART as usize {
            break;
        }
    }
    Ok(deleted)
}
