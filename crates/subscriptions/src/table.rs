//! Subscriptions as rows, and what management does with them.
//!
//! Every change raises the version, so that what works on a subscription reads it again. A change of the cursor also raises
//! `moved`: a batch that was begun before it records its attempts, and moves the cursor no more.

use event::{EventId, SubscriptionName, Timestamp};
use ledger::feed::{self, BadCursor, Cursor};
use serde::{Deserialize, Serialize};
use store::many::{Value, fetch, insert};
use store::{
    AnyRow, Conditions, Connection, Dialect, DriverError, Row, Store, StoreError, Tx, id, optional_time, time,
};

use crate::declaration::{BadDeclaration, Declaration, Door};
use crate::{Seal, SealError, Secrets, SigningKey};

store::stored_enum! {
    /// The state of a subscription.
    #[derive(Serialize, Deserialize, utoipa::ToSchema)]
    #[serde(rename_all = "snake_case")]
    #[schema(as = SubscriptionState)]
    State {
        /// Events are delivered as they come.
        Active = "active",
        /// The breaker is open: only a probe is sent from time to time.
        Failing = "failing",
        /// Nothing is sent until somebody resumes it.
        Paused = "paused",
    }
}

/// A subscription.
#[derive(Clone, Debug)]
pub struct Subscription {
    /// Its id: a new one for each subscription that is added, also under the name of one that was removed.
    pub id: EventId,
    /// What was asked for.
    pub declaration: Declaration,
    /// Whether it works.
    pub state: State,
    /// Why it does not; empty otherwise.
    pub reason: String,
    /// Every event up to here is delivered, or waits for another attempt.
    pub cursor: Cursor,
    /// What is delivered again beside the live events.
    pub backfill: Option<Backfill>,
    /// Goes up with every change.
    pub version: i64,
    /// Goes up when the cursor is set.
    pub moved: i64,
    /// Requests that failed in a row.
    pub failures: i64,
    /// Since when.
    pub failing_since: Option<Timestamp>,
    /// The endpoint asked for a pause until then.
    pub held_until: Option<Timestamp>,
    /// When the next request is sent as a probe, while it fails.
    pub probe_at: Option<Timestamp>,
    /// When it was added.
    pub created_at: Timestamp,
    /// When it was changed last.
    pub changed_at: Timestamp,
    sealed: Vec<u8>,
}

/// A part of history that is delivered again beside the live events.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct Backfill {
    /// How far it is.
    pub cursor: String,
    /// Up to where it goes.
    pub until: String,
    /// The most events in a second.
    pub rate_per_s: u32,
}

impl Backfill {
    /// What is between two positions, with what is left of an earlier one.
    fn new(from: Cursor, until: Cursor, rate_per_s: u32, earlier: Option<&Self>) -> Self {
        let earlier = earlier.and_then(|earlier| earlier.cursor.parse::<Cursor>().ok());
        let from = earlier.filter(|earlier| from.is_after(earlier)).unwrap_or(from);
        Self { cursor: from.to_string(), until: until.to_string(), rate_per_s }
    }

    /// What is left of it after this position.
    fn after(self, position: &Cursor) -> Option<Self> {
        let (cursor, until) = (self.cursor.parse::<Cursor>().ok()?, self.until.parse::<Cursor>().ok()?);
        let cursor = if position.is_after(&cursor) { *position } else { cursor };
        until.is_after(&cursor).then(|| Self { cursor: cursor.to_string(), ..self })
    }
}

/// Which events are delivered of those that waited while a subscription was paused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Resume {
    /// All are delivered.
    All,
    /// Those received since then are delivered.
    Since(Timestamp),
    /// None is delivered.
    None,
}

/// Where a subscription is to go on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Seek {
    /// With the oldest event on record.
    Beginning,
    /// With what is recorded from now on.
    Now,
    /// With the first event on record that was received at this time or later.
    Time(Timestamp),
    /// With this event.
    Event(EventId),
    /// After this position of the feed.
    Cursor(Cursor),
}

/// Why a subscription was not changed.
#[derive(Debug, thiserror::Error)]
pub enum SubscriptionError {
    /// The store did not do its part.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// There is none with this name.
    #[error("there is no subscription {0}")]
    Unknown(SubscriptionName),
    /// There is one with this name already.
    #[error("there is a subscription {0} already; edit it, or remove it first")]
    Exists(SubscriptionName),
    /// The declaration cannot be used.
    #[error(transparent)]
    Declaration(#[from] BadDeclaration),
    /// Its door would become another one.
    #[error("{name} is a {found} subscription and cannot become another kind; remove it, then add it again")]
    Door {
        /// The subscription.
        name: SubscriptionName,
        /// Its door.
        found: &'static str,
    },
    /// It is not as it was when it was read.
    #[error(
        "the subscription {0} was changed by somebody else meanwhile; look at it again, then repeat the change"
    )]
    Changed(SubscriptionName),
    /// It has no cursor to move: the broker has what waits.
    #[error("{0} is a queue subscription: its events wait in its queue, which has no position to set")]
    NoCursor(SubscriptionName),
    /// A rate where nothing is delivered again by it.
    #[error(
        "a rate is for history that a push subscription delivers again, from before its position; {0} would only be moved: \
         leave the rate out"
    )]
    NoHistory(SubscriptionName),
    /// The event is not on record.
    #[error("event {0} is not on record")]
    NoEvent(EventId),
    /// Its secrets cannot be encrypted or decrypted.
    #[error("the secrets of {name} cannot be encrypted or decrypted")]
    Sealed {
        /// The subscription.
        name: SubscriptionName,
        /// Why.
        #[source]
        cause: SealError,
    },
}

pub(crate) const COLUMNS: &str = "id, declaration, sealed, state, reason, cursor, backfill, version, moved, failures, failing_since, \
     held_until, probe_at, created_at, changed_at";

pub(crate) fn decode(error: impl std::error::Error + Send + Sync + 'static) -> StoreError {
    DriverError::Decode(Box::new(error)).into()
}

pub(crate) fn subscription(row: &AnyRow) -> Result<Subscription, StoreError> {
    let cursor: String = row.try_get("cursor")?;
    let backfill: Option<String> = row.try_get("backfill")?;
    Ok(Subscription {
        id: id(row, "id")?,
        declaration: serde_json::from_str(&row.try_get::<String, _>("declaration")?).map_err(decode)?,
        state: State::read(row, "state")?,
        reason: row.try_get("reason")?,
        cursor: cursor.parse().map_err(|error: BadCursor| decode(error))?,
        backfill: backfill.map(|text| serde_json::from_str(&text).map_err(decode)).transpose()?,
        version: row.try_get("version")?,
        moved: row.try_get("moved")?,
        failures: row.try_get("failures")?,
        failing_since: optional_time(row, "failing_since")?,
        held_until: optional_time(row, "held_until")?,
        probe_at: optional_time(row, "probe_at")?,
        created_at: time(row, "created_at")?,
        changed_at: time(row, "changed_at")?,
        sealed: row.try_get("sealed")?,
    })
}

impl Subscription {
    /// Its name.
    pub fn name(&self) -> &SubscriptionName {
        &self.declaration.name
    }

    /// Its door.
    pub fn door(&self) -> Result<Door<'_>, SubscriptionError> {
        Ok(self.declaration.door()?)
    }
}

fn context(id: EventId) -> String {
    format!("subscription/{id}")
}

/// No secrets are no bytes, so that a subscription without any needs no key.
fn sealed(
    seal: &Seal,
    id: EventId,
    name: &SubscriptionName,
    secrets: &Secrets,
) -> Result<Vec<u8>, SubscriptionError> {
    if *secrets == Secrets::default() {
        return Ok(Vec::new());
    }
    let plain = serde_json::to_vec(secrets).expect("texts and times are JSON");
    let sealed = seal.seal(&context(id), &plain);
    sealed.map_err(|cause| SubscriptionError::Sealed { name: name.clone(), cause })
}

/// Seals again what a replaced key has sealed, so that it is no longer needed. Gives how many.
pub async fn seal_again(store: &Store, seal: &Seal) -> Result<usize, SubscriptionError> {
    let mut tx = store.begin().await?;
    let text = format!("UPDATE subscriptions SET version = version + 1 RETURNING {COLUMNS}");
    let mut count = 0;
    for row in fetch(&mut tx, text, []).await? {
        let known = subscription(&row)?;
        if !known.sealed.is_empty() && !seal.is_current(&known.sealed) {
            let secrets = unseal(seal, &known)?;
            let sealed = sealed(seal, known.id, known.name(), &secrets)?;
            set(&mut tx, known.id, "sealed = $2", [Value::from(sealed)]).await?;
            count += 1;
        }
    }
    commit(tx).await?;
    Ok(count)
}

/// The secrets of a subscription.
pub fn unseal(seal: &Seal, subscription: &Subscription) -> Result<Secrets, SubscriptionError> {
    if subscription.sealed.is_empty() {
        return Ok(Secrets::default());
    }
    let name = || subscription.name().clone();
    let plain = seal
        .unseal(&context(subscription.id), &subscription.sealed)
        .map_err(|cause| SubscriptionError::Sealed { name: name(), cause })?;
    Ok(serde_json::from_slice(&plain).map_err(decode)?)
}

/// Adds a subscription, which begins there.
pub async fn add(
    store: &Store,
    seal: &Seal,
    declaration: &Declaration,
    secrets: &Secrets,
    begin: Seek,
) -> Result<Subscription, SubscriptionError> {
    declaration.check()?;
    let kind = declaration.door()?.kind();
    let cursor = cursor_of(store, begin).await?;
    let (id, now) = (EventId::generate(), event::now());
    let row = vec![
        id.into(),
        Value::from(&declaration.name),
        Value::from(&kind.as_str()),
        Value::from(json(declaration)),
        Value::from(sealed(seal, id, &declaration.name, secrets)?),
        Value::from(&State::Active.as_str()),
        Value::from(&""),
        Value::from(&cursor),
        Value::from(1),
        Value::from(0),
        Value::from(0),
        Value::from(now),
        Value::from(now),
    ];
    let into = "subscriptions (id, name, door, declaration, sealed, state, reason, cursor, version, moved, failures, \
                created_at, changed_at)";
    let mut tx = store.begin().await?;
    let rows =
        insert(&mut tx, into, &format!("ON CONFLICT (name) DO NOTHING RETURNING {COLUMNS}"), vec![row])
            .await?;
    let row = rows.first().ok_or_else(|| SubscriptionError::Exists(declaration.name.clone()))?;
    let added = subscription(row)?;
    commit(tx).await?;
    Ok(added)
}

fn json(declaration: &Declaration) -> String {
    serde_json::to_string(declaration).expect("texts and numbers are JSON")
}

pub(crate) async fn commit(tx: Tx) -> Result<(), StoreError> {
    Ok(tx.commit().await?)
}

/// The subscription with this name.
pub async fn get(store: &Store, name: &SubscriptionName) -> Result<Option<Subscription>, StoreError> {
    by_name(&mut *store.read().await?, name).await
}

/// The same within a transaction.
pub(crate) async fn by_name(
    connection: &mut Connection,
    name: &SubscriptionName,
) -> Result<Option<Subscription>, StoreError> {
    let text = format!("SELECT {COLUMNS} FROM subscriptions WHERE name = $1");
    let rows = fetch(connection, text, [Value::from(name)]).await?;
    rows.first().map(subscription).transpose()
}

/// The subscription with this id.
pub async fn by_id(store: &Store, id: EventId) -> Result<Option<Subscription>, StoreError> {
    let text = format!("SELECT {COLUMNS} FROM subscriptions WHERE id = $1");
    let rows = fetch(&mut *store.read().await?, text, [Value::from(id)]).await?;
    rows.first().map(subscription).transpose()
}

/// Every subscription, by name.
pub async fn list(store: &Store) -> Result<Vec<Subscription>, StoreError> {
    all(&mut *store.read().await?).await
}

/// The same by a connection.
pub(crate) async fn all(connection: &mut Connection) -> Result<Vec<Subscription>, StoreError> {
    let text = format!("SELECT {COLUMNS} FROM subscriptions ORDER BY name");
    fetch(connection, text, []).await?.iter().map(subscription).collect()
}

/// The names of all subscriptions.
pub async fn names(connection: &mut Connection) -> Result<Vec<String>, StoreError> {
    let rows = fetch(connection, "SELECT name FROM subscriptions ORDER BY name".to_owned(), []).await?;
    rows.iter().map(|row| Ok(row.try_get(0)?)).collect()
}

/// A subscription whose row stays locked until the transaction ends. On SQLite the transaction is the only writer anyway.
pub(crate) async fn locked(
    tx: &mut Connection,
    name: &SubscriptionName,
) -> Result<Subscription, SubscriptionError> {
    let text = format!(
        "UPDATE subscriptions SET version = version + 1, changed_at = $2 WHERE name = $1 RETURNING {COLUMNS}"
    );
    let rows = fetch(tx, text, [Value::from(name), Value::from(event::now())]).await?;
    let row = rows.first().ok_or_else(|| SubscriptionError::Unknown(name.clone()))?;
    Ok(subscription(row)?)
}

/// Sets columns of a subscription: `reason = $2, state = $3` with the values of `$2`, `$3`, ….
async fn set(
    tx: &mut Connection,
    id: EventId,
    columns: &str,
    values: impl IntoIterator<Item = Value>,
) -> Result<Subscription, SubscriptionError> {
    let text = format!("UPDATE subscriptions SET {columns} WHERE id = $1 RETURNING {COLUMNS}");
    let rows = fetch(tx, text, std::iter::once(Value::from(id)).chain(values)).await?;
    let row = rows.first().expect("the row is locked by this transaction");
    Ok(subscription(row)?)
}

/// Changes what the subscription with the declaration's name asks for; its position stays. `secrets` makes the secrets of its
/// declaration and those that it has, which nobody else changes meanwhile. With a version, nothing is changed if the subscription
/// has another one.
pub async fn edit<E: From<SubscriptionError>>(
    store: &Store,
    seal: &Seal,
    declaration: &Declaration,
    version: Option<i64>,
    secrets: impl FnOnce(&Declaration, Secrets) -> Result<Secrets, E>,
) -> Result<Subscription, E> {
    let mut tx = store.begin().await.map_err(SubscriptionError::from)?;
    let known = editable(&mut tx, declaration, version).await?;
    let before = unseal(seal, &known)?;
    let after = secrets(&known.declaration, before.clone())?;
    let sealed = match after == before {
        true => known.sealed,
        false => sealed(seal, known.id, &declaration.name, &after)?,
    };
    let values = [Value::from(json(declaration)), Value::from(sealed)];
    let edited = set(&mut tx, known.id, "declaration = $2, sealed = $3", values).await?;
    commit(tx).await.map_err(SubscriptionError::from)?;
    Ok(edited)
}

/// The subscription that a declaration changes, locked.
async fn editable(
    tx: &mut Connection,
    declaration: &Declaration,
    version: Option<i64>,
) -> Result<Subscription, SubscriptionError> {
    declaration.check()?;
    let kind = declaration.door()?.kind();
    let known = locked(tx, &declaration.name).await?;
    // Locking has raised it by one.
    if version.is_some_and(|version| version != known.version - 1) {
        return Err(SubscriptionError::Changed(declaration.name.clone()));
    }
    let found = known.door()?.kind();
    if found != kind {
        return Err(SubscriptionError::Door { name: declaration.name.clone(), found: found.as_str() });
    }
    Ok(known)
}

/// Pauses a subscription: nothing new is sent. What comes meanwhile waits.
pub async fn pause(
    store: &Store,
    name: &SubscriptionName,
    reason: &str,
) -> Result<Subscription, SubscriptionError> {
    let mut tx = store.begin().await?;
    let known = locked(&mut tx, name).await?;
    let values = [Value::from(&State::Paused.as_str()), Value::from(&reason)];
    let paused = set(&mut tx, known.id, "state = $2, reason = $3", values).await?;
    commit(tx).await?;
    Ok(paused)
}

/// Goes on with a subscription, whether it was paused or fails: its breaker is closed. A pause that its endpoint asked for
/// stays. What was undelivered stays so. That events were deleted before it read them is known from now on.
pub async fn resume(
    store: &Store,
    name: &SubscriptionName,
    what: Resume,
) -> Result<Subscription, SubscriptionError> {
    let before = get(store, name).await?.ok_or_else(|| SubscriptionError::Unknown(name.clone()))?;
    let present = feed::knowing_deleted(store, before.cursor).await?;
    let begin = match what {
        Resume::All => present,
        Resume::Since(time) => feed::before_time(store, time).await?,
        Resume::None => feed::end(store).await?,
    };
    // What is before the cursor is delivered, or has a row.
    let cursor = if begin.is_after(&present) { begin } else { present };
    let mut tx = store.begin().await?;
    let known = locked(&mut tx, name).await?;
    if known.id != before.id {
        return Err(SubscriptionError::Unknown(name.clone()));
    }
    // A worker that still ran has come further meanwhile.
    let cursor = if known.cursor.is_after(&cursor) { known.cursor } else { cursor };
    let backfill = match what {
        Resume::All => known.backfill,
        Resume::Since(_) => known.backfill.and_then(|backfill| backfill.after(&begin)),
        Resume::None => None,
    };
    let values = [Value::from(&cursor), Value::from(backfill.as_ref().map(backfill_text))];
    set(&mut tx, known.id, "cursor = $2, backfill = $3, moved = moved + 1", values).await?;
    if what != Resume::All {
        let before = match what {
            Resume::Since(time) => time.as_microsecond(),
            _ => i64::MAX,
        };
        let text =
            "DELETE FROM deliveries WHERE subscription = $1 AND due_at IS NOT NULL AND received_at < $2";
        fetch(&mut tx, text.to_owned(), [Value::from(known.id), Value::from(before)]).await?;
    }
    let columns = "state = $2, reason = '', failures = 0, failing_since = NULL, probe_at = NULL";
    let resumed = set(&mut tx, known.id, columns, [Value::from(&State::Active.as_str())]).await?;
    commit(tx).await?;
    Ok(resumed)
}

fn backfill_text(backfill: &Backfill) -> String {
    serde_json::to_string(backfill).expect("texts and numbers are JSON")
}

async fn cursor_of(store: &Store, to: Seek) -> Result<Cursor, SubscriptionError> {
    Ok(match to {
        Seek::Beginning => feed::beginning(store).await?,
        Seek::Now => feed::end(store).await?,
        Seek::Time(time) => feed::before_time(store, time).await?,
        Seek::Event(event) => {
            feed::before_event(store, event).await?.ok_or(SubscriptionError::NoEvent(event))?
        }
        Seek::Cursor(cursor) => cursor,
    })
}

/// Sets the position of a subscription. With a rate, the live events go on, and what is between the new position and the
/// present one is delivered again beside them, at most so many events in a second, with what is left of such a history.
pub async fn seek(
    store: &Store,
    name: &SubscriptionName,
    to: Seek,
    rate_per_s: Option<u32>,
) -> Result<Subscription, SubscriptionError> {
    let cursor = cursor_of(store, to).await?;
    let mut tx = store.begin().await?;
    let known = locked(&mut tx, name).await?;
    let sought = match (known.door()?, rate_per_s) {
        (Door::Queue(_), _) => return Err(SubscriptionError::NoCursor(name.clone())),
        (Door::Pull(_), Some(_)) => return Err(SubscriptionError::NoHistory(name.clone())),
        (Door::Push(_), Some(_)) if !known.cursor.is_after(&cursor) => {
            return Err(SubscriptionError::NoHistory(name.clone()));
        }
        (Door::Push(_), Some(rate_per_s)) => {
            let backfill = Backfill::new(cursor, known.cursor, rate_per_s.max(1), known.backfill.as_ref());
            let columns = "backfill = $2, moved = moved + 1";
            set(&mut tx, known.id, columns, [Value::from(backfill_text(&backfill))]).await?
        }
        _ => {
            forget_what_comes_again(&mut tx, store.dialect(), known.id, &cursor).await?;
            let columns = "cursor = $2, backfill = NULL, moved = moved + 1";
            set(&mut tx, known.id, columns, [Value::from(&cursor)]).await?
        }
    };
    commit(tx).await?;
    Ok(sought)
}

/// Deletes the rows of events that wait and are after a position: they are read again, in their order, and would otherwise be sent
/// before earlier ones of their subject.
async fn forget_what_comes_again(
    tx: &mut Connection,
    dialect: Dialect,
    id: EventId,
    after: &Cursor,
) -> Result<(), StoreError> {
    let mut conditions = Conditions::default();
    conditions.with("subscription =", Some(id));
    conditions.add("due_at IS NOT NULL");
    let is_after = feed::is_after(dialect, after, &mut conditions);
    conditions
        .add(format!("EXISTS (SELECT 1 FROM events e WHERE e.id = deliveries.event_id AND {is_after})"));
    fetch(tx, format!("DELETE FROM deliveries {}", conditions.clause()), conditions.values).await?;
    Ok(())
}

/// Sets the digest of the token that may read a pull subscription.
pub async fn set_token(
    store: &Store,
    name: &SubscriptionName,
    digest: [u8; 32],
) -> Result<(), SubscriptionError> {
    let mut tx = store.begin().await?;
    let known = locked(&mut tx, name).await?;
    set(&mut tx, known.id, "token = $2", [Value::from(digest.to_vec())]).await?;
    Ok(commit(tx).await?)
}

/// Makes this the newest signing secret. Its predecessor signs beside it until the given time; older ones end now.
pub async fn rotate_secret(
    store: &Store,
    seal: &Seal,
    name: &SubscriptionName,
    secret: String,
    predecessor_until: Timestamp,
) -> Result<Subscription, SubscriptionError> {
    let mut tx = store.begin().await?;
    let known = locked(&mut tx, name).await?;
    let mut secrets = unseal(seal, &known)?;
    let predecessor = secrets.signing.into_iter().next();
    let predecessor = predecessor.map(|key| SigningKey { until: Some(predecessor_until), ..key });
    secrets.signing = [SigningKey { secret, until: None }].into_iter().chain(predecessor).collect();
    let sealed = sealed(seal, known.id, name, &secrets)?;
    let rotated = set(&mut tx, known.id, "sealed = $2", [Value::from(sealed)]).await?;
    commit(tx).await?;
    Ok(rotated)
}

/// Removes a subscription and what waits for it. Its attempts are deleted in the background.
pub async fn remove(store: &Store, name: &SubscriptionName) -> Result<Subscription, SubscriptionError> {
    let mut tx = store.begin().await?;
    let known = locked(&mut tx, name).await?;
    for text in ["DELETE FROM subscriptions WHERE id = $1", "DELETE FROM deliveries WHERE subscription = $1"]
    {
        fetch(&mut tx, text.to_owned(), [Value::from(known.id)]).await?;
    }
    commit(tx).await?;
    Ok(known)
}
