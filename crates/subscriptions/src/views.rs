//! The lists of subscriptions and attempts.

use event::{SubscriptionName, Timestamp};
use ledger::feed;
use serde::{Deserialize, Serialize};
use store::many::{Value, fetch};
use store::{Conditions, Connection, Dialect, List, Page, Paged, Row, StoreError};
use utoipa::{IntoParams, ToSchema};
use view::{Column, Form, Reading, Shown, Tone, Tones, View, column, dropped, shown};

use crate::outcomes::{ATTEMPTS, REPORT, UNDELIVERED};
use crate::table::{COLUMNS, State, Subscription, subscription};
use crate::{Door, DoorKind, queue};

/// So many events after its position are looked at, and so many of those that wait are counted, for the lag of a subscription.
const MOST_LAG: u32 = 10_000;

/// Which subscriptions to list: all that is given must fit.
#[derive(Clone, Debug, Default, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub struct SubscriptionFilter {
    /// The name.
    #[param(value_type = Option<String>)]
    pub name: Option<SubscriptionName>,
    /// The door.
    pub door: Option<DoorKind>,
    /// The state.
    pub state: Option<State>,
}

/// A subscription in a list.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct SubscriptionRow {
    /// Its name.
    pub name: String,
    /// How events get to the service.
    pub door: DoorKind,
    /// The topics that it asks for.
    pub topics: Vec<String>,
    /// Whether it works.
    pub state: State,
    /// Why it is paused or fails, or until when its endpoint has asked for a pause.
    pub reason: Option<String>,
    /// How far in the feed it is; null for a queue, where the broker has what waits.
    pub position: Option<String>,
    /// How many events it has still to get: those of its topics after its position, counted among the next 10,000 of the feed, and
    /// at most 10,000 up to it that wait for another attempt or behind one. For a queue, how many messages wait in it.
    pub lag: Option<i64>,
    /// Events whose attempts are used up.
    pub undelivered: i64,
    /// Since when its requests fail.
    #[schema(value_type = Option<String>, format = DateTime)]
    pub failing_since: Option<Timestamp>,
    /// When the next request is sent, while it fails or its endpoint has asked for a pause.
    #[schema(value_type = Option<String>, format = DateTime)]
    pub next_probe_at: Option<Timestamp>,
}

/// What the states mean to those who read them.
const TONES: Tones = &[("active", Tone::Good), ("paused", Tone::Waiting), ("failing", Tone::Bad)];

impl Shown for SubscriptionRow {
    const COLUMNS: &'static [Column<Self>] = &[
        column("Name", |row| shown(&row.name), Form::Id),
        column("Door", |row| shown(&row.door), Form::Text),
        column("State", |row| shown(&row.state), Form::State(TONES)),
        column("Topics", |row| shown(&row.topics.join(", ")), Form::Text),
        column("Lag", |row| shown(&row.lag), Form::Number),
        dropped(3, column("Undelivered", |row| shown(&row.undelivered), Form::Number)),
        dropped(4, column("Failing since", |row| shown(&row.failing_since), Form::Time)),
        dropped(1, column("Next retry", |row| shown(&row.next_probe_at), Form::Time)),
        dropped(2, column("Reason", |row| shown(&row.reason), Form::Text)),
    ];
}

/// `subscriptions`
pub static SUBSCRIPTIONS: View = View {
    name: "subscriptions",
    tag: "subscriptions",
    about: "What internal services asked for: which topics, through which door, and how far they are",
    row: "subscription",
    rows: "subscriptions",
    example: "state=paused",
    empty: "No subscriptions. `malote subscriptions add NAME --pull --topics '…'` adds one; docs/subscribing.md shows how.",
    reading: Reading::new::<SubscriptionRow>(),
};

/// Every list of subscriptions.
pub static VIEWS: [&View; 4] = [&SUBSCRIPTIONS, &ATTEMPTS, &UNDELIVERED, &REPORT];

impl SubscriptionRow {
    /// A subscription as the list shows it.
    pub async fn new(
        connection: &mut Connection,
        name: &SubscriptionName,
    ) -> Result<Option<Self>, StoreError> {
        let filter = SubscriptionFilter { name: Some(name.clone()), ..SubscriptionFilter::default() };
        let page = <Self as view::Row>::page(connection, &filter, &Page::first(1)).await?;
        Ok(page.items.into_iter().next())
    }

    async fn from_subscription(
        connection: &mut Connection,
        subscription: Subscription,
        undelivered: i64,
    ) -> Result<Self, StoreError> {
        // It was checked when it was saved.
        let door = subscription.door().map_or(DoorKind::Pull, |door: Door<'_>| door.kind());
        let (position, lag) = match door {
            DoorKind::Queue => (None, queue::messages(connection, subscription.name().as_str()).await?),
            DoorKind::Push | DoorKind::Pull => {
                (Some(subscription.cursor.to_string()), Some(lag(connection, &subscription).await?))
            }
        };
        let Subscription { declaration, state, reason, failing_since, held_until, probe_at, .. } =
            subscription;
        Ok(Self {
            name: declaration.name.to_string(),
            door,
            topics: declaration.topics,
            state,
            reason: Some(reason).filter(|reason| !reason.is_empty()),
            position,
            lag,
            undelivered,
            failing_since,
            next_probe_at: held_until.max(probe_at),
        })
    }
}

/// How many events a push or pull subscription has still to get: those that wait in the feed, and those that wait for another
/// attempt, or behind one.
pub(crate) async fn lag(connection: &mut Connection, subscription: &Subscription) -> Result<i64, StoreError> {
    let Subscription { id, declaration, cursor, .. } = subscription;
    let ahead = feed::ahead(connection, &declaration.topics().unwrap_or_default(), *cursor, MOST_LAG).await?;
    // Those after the position are counted.
    let mut conditions = Conditions::default();
    conditions.with("d.subscription =", Some(*id));
    conditions.add("d.due_at IS NOT NULL");
    let is_after = feed::is_after(Dialect::from_connection(connection), cursor, &mut conditions);
    conditions.add(format!("(e.id IS NULL OR NOT ({is_after}))"));
    let text = format!(
        "SELECT count(*) FROM (SELECT d.event_id FROM deliveries d LEFT JOIN events e ON e.id = d.event_id {} \
         LIMIT {MOST_LAG}) w",
        conditions.clause()
    );
    let waiting: i64 = fetch(connection, text, conditions.values).await?[0].try_get(0)?;
    Ok(ahead + waiting)
}

impl view::Row for SubscriptionRow {
    type Filter = SubscriptionFilter;

    async fn page(
        connection: &mut Connection,
        filter: &SubscriptionFilter,
        page: &Page,
    ) -> Result<Paged<Self>, StoreError> {
        let undelivered =
            "SELECT count(*) FROM deliveries d WHERE d.subscription = subscriptions.id AND d.due_at IS NULL";
        let select = format!("SELECT {COLUMNS}, ({undelivered}) AS undelivered FROM subscriptions");
        let mut conditions = Conditions::default();
        conditions.with("name =", filter.name.as_ref());
        conditions.with("door =", filter.door.map(|door| Value::from(door.as_str())));
        conditions.with("state =", filter.state.map(|state| Value::from(state.as_str())));
        let read = |row: &store::AnyRow| {
            Ok::<_, StoreError>((subscription(row)?, row.try_get::<i64, _>("undelivered")?))
        };
        let Paged { items: found, next } =
            List::by_id(&select, &["id"]).page(connection, conditions, page, read).await?;
        let mut items = Vec::with_capacity(found.len());
        for (subscription, undelivered) in found {
            items.push(Self::from_subscription(connection, subscription, undelivered).await?);
        }
        Ok(Paged { items, next })
    }
}
