//! The queues as the broker may have them: what is on record of each, and which change of it was begun last.

use event::{EventId, SubscriptionName};
use store::many::{Value, fetch, insert};
use store::{AnyRow, Connection, Row, Store, StoreError, id};

use super::{Patterns, QueueError, patterns};
use crate::declaration::{Door, QueueDoor};
use crate::table::{self, State, Subscription};

/// What the broker may have.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Recorded {
    /// Of which subscription.
    pub id: EventId,
    /// Every binding that may exist.
    pub patterns: Patterns,
    /// The user that may exist.
    pub user: Option<String>,
    /// Which change of it was begun last.
    pub round: i64,
    /// How many messages were seen in it last.
    pub messages: Option<i64>,
}

/// What a subscription asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Wanted {
    pub id: EventId,
    pub patterns: Patterns,
    pub user: Option<String>,
    /// What is on record as wrong with it.
    pub trouble: Option<String>,
}

impl Wanted {
    /// `None` for another door.
    pub fn from_subscription(subscription: &Subscription) -> Result<Option<Self>, QueueError> {
        let Door::Queue(QueueDoor { user }) = subscription.door()? else { return Ok(None) };
        let patterns = patterns(&subscription.declaration)?;
        let trouble = (subscription.state == State::Failing).then(|| subscription.reason.clone());
        Ok(Some(Self { id: subscription.id, patterns, user: user.clone(), trouble }))
    }
}

impl Recorded {
    /// Whether nothing is to be done for what is asked for.
    pub fn is(&self, wanted: &Wanted) -> bool {
        let has_its_user = self.user.is_none() || self.user == wanted.user;
        self.id == wanted.id && self.patterns == wanted.patterns && has_its_user
    }
}

const COLUMNS: &str = "name, subscription, bindings, broker_user, round, messages";

fn recorded(row: &AnyRow) -> Result<Recorded, StoreError> {
    let bindings: String = row.try_get("bindings")?;
    Ok(Recorded {
        id: id(row, "subscription")?,
        patterns: serde_json::from_str(&bindings).map_err(table::decode)?,
        user: row.try_get("broker_user")?,
        round: row.try_get("round")?,
        messages: row.try_get("messages")?,
    })
}

fn json(patterns: &Patterns) -> Value {
    Value::from(serde_json::to_string(patterns).expect("texts are JSON"))
}

/// What is on record of every queue, by the name of its subscription.
pub(super) async fn all(store: &Store) -> Result<Vec<(SubscriptionName, Recorded)>, StoreError> {
    let text = format!("SELECT {COLUMNS} FROM subscription_queues ORDER BY name");
    let rows = fetch(&mut *store.read().await?, text, []).await?;
    let named = |row: &AnyRow| {
        let name = SubscriptionName::new(row.try_get::<String, _>("name")?).map_err(table::decode)?;
        Ok((name, recorded(row)?))
    };
    rows.iter().map(named).collect()
}

/// A change that was begun.
pub(super) struct Change {
    pub recorded: Recorded,
    pub wanted: Option<Wanted>,
}

/// Begins a change of the queue of this name, unless there is nothing to change: none is on record and none is asked for. What
/// is asked for is on record afterwards, and what this process may have `bound` before.
pub(super) async fn begin(
    store: &Store,
    name: &SubscriptionName,
    bound: &Patterns,
) -> Result<Option<Change>, QueueError> {
    let mut tx = store.begin().await?;
    // Locks the row until the transaction ends.
    let text =
        format!("UPDATE subscription_queues SET round = round + 1 WHERE name = $1 RETURNING {COLUMNS}");
    let rows = fetch(&mut tx, text, [Value::from(name)]).await?;
    let known = rows.first().map(recorded).transpose()?;
    let wanted = match table::by_name(&mut tx, name).await? {
        Some(subscription) => Wanted::from_subscription(&subscription)?,
        None => None,
    };
    let mut recorded = match (known, &wanted) {
        (Some(known), _) => known,
        (None, Some(wanted)) => add(&mut tx, name, wanted.id).await?,
        (None, None) if bound.is_empty() => return Ok(None),
        // Deleted by another process before this one declared it.
        (None, None) => add(&mut tx, name, EventId::generate()).await?,
    };
    if let Some(wanted) = &wanted
        && recorded.id == wanted.id
    {
        recorded.patterns.extend(bound.union(&wanted.patterns).cloned());
        let text = "UPDATE subscription_queues SET bindings = $2 WHERE name = $1".to_owned();
        fetch(&mut tx, text, [Value::from(name), json(&recorded.patterns)]).await?;
    }
    tx.commit().await.map_err(StoreError::from)?;
    Ok(Some(Change { recorded, wanted }))
}

/// A row for a new queue, or that of a process which was faster.
async fn add(tx: &mut Connection, name: &SubscriptionName, id: EventId) -> Result<Recorded, StoreError> {
    let row = vec![Value::from(name), Value::from(id), json(&Patterns::new()), Value::from(1)];
    let tail =
        format!("ON CONFLICT (name) DO UPDATE SET round = subscription_queues.round + 1 RETURNING {COLUMNS}");
    let into = "subscription_queues (name, subscription, bindings, round)";
    let rows = insert(tx, into, &tail, vec![row]).await?;
    recorded(rows.first().expect("a row is inserted or updated"))
}

/// Concludes a change: the broker has what was asked for, or no such queue. False if another change was begun meanwhile.
pub(super) async fn conclude(
    store: &Store,
    name: &SubscriptionName,
    round: i64,
    has: Option<&Wanted>,
) -> Result<bool, StoreError> {
    let mut tx = store.begin().await?;
    let key = [Value::from(name), Value::from(round)];
    let concluded = match has {
        Some(Wanted { patterns, user, .. }) => {
            let text = "UPDATE subscription_queues SET bindings = $3, \
                        broker_user = CASE WHEN broker_user = $4 THEN broker_user END \
                        WHERE name = $1 AND round = $2 RETURNING round";
            let values = key.into_iter().chain([json(patterns), Value::from(user.clone())]);
            fetch(&mut tx, text.to_owned(), values).await?
        }
        None => {
            let text = "DELETE FROM subscription_queues WHERE name = $1 AND round = $2 RETURNING round";
            fetch(&mut tx, text.to_owned(), key).await?
        }
    };
    tx.commit().await?;
    Ok(!concluded.is_empty())
}

/// What was seen of a queue last.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Sight {
    /// Messages that are ready, if there is a queue.
    pub messages: Option<i64>,
    /// What is wrong.
    pub trouble: Option<String>,
}

/// Puts on record what was seen of a queue: how many messages wait there, and whether its subscription works.
pub(super) async fn see(store: &Store, name: &SubscriptionName, sight: &Sight) -> Result<(), StoreError> {
    let mut tx = store.begin().await?;
    let text = "UPDATE subscription_queues SET messages = $2 WHERE name = $1".to_owned();
    fetch(&mut tx, text, [Value::from(name), Value::from(sight.messages)]).await?;
    let state = if sight.trouble.is_some() { State::Failing } else { State::Active };
    let reason = sight.trouble.as_deref().unwrap_or_default();
    let text =
        "UPDATE subscriptions SET state = $2, reason = $3 WHERE name = $1 AND door = 'queue'".to_owned();
    fetch(&mut tx, text, [Value::from(name), Value::from(state.as_str()), Value::from(reason)]).await?;
    Ok(tx.commit().await?)
}

/// How many messages were seen in the queue of a subscription last, a few seconds ago; nothing yet of a new one.
pub(crate) async fn messages(connection: &mut Connection, name: &str) -> Result<Option<i64>, StoreError> {
    let text = "SELECT messages FROM subscription_queues WHERE name = $1".to_owned();
    match fetch(connection, text, [Value::from(name)]).await?.first() {
        Some(row) => Ok(row.try_get("messages")?),
        None => Ok(None),
    }
}

/// Puts on record that a queue may have this user.
pub(super) async fn set_user(store: &Store, name: &SubscriptionName, user: &str) -> Result<(), QueueError> {
    let mut tx = store.begin().await?;
    let text =
        "UPDATE subscription_queues SET broker_user = $2, round = round + 1 WHERE name = $1 RETURNING round";
    let rows = fetch(&mut tx, text.to_owned(), [Value::from(name), Value::from(user)]).await?;
    tx.commit().await.map_err(StoreError::from)?;
    match rows.is_empty() {
        true => Err(QueueError::NoQueue(name.clone())),
        false => Ok(()),
    }
}
