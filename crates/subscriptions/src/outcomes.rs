//! The outcome of events at push subscriptions: every attempt, what is undelivered, and a report by period.

use event::{EventId, SubscriptionName, Timestamp, Topic};
use serde::{Deserialize, Serialize};
use store::many::{Value, fetch};
use store::{AnyRow, Conditions, Connection, IdPrefix, List, Page, Paged, Row, StoreError, cursor, id, time};
use utoipa::{IntoParams, ToSchema};
use view::{Column, Form, Reading, Shown, View, column, dropped, shown};

/// Which attempts to list: all that is given must fit.
#[derive(Clone, Debug, Default, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub struct AttemptFilter {
    /// Only those of this subscription.
    #[param(value_type = Option<String>)]
    pub subscription: Option<SubscriptionName>,
    /// The event's id, or its beginning.
    #[param(value_type = Option<String>)]
    pub id: Option<IdPrefix>,
    /// Only those at this time or later.
    #[param(value_type = Option<String>, format = DateTime)]
    pub from: Option<Timestamp>,
    /// Only those before this time.
    #[param(value_type = Option<String>, format = DateTime)]
    pub to: Option<Timestamp>,
    /// Only those that were answered with this status.
    pub status: Option<i64>,
    /// Only those with this text in their error.
    pub error: Option<String>,
}

/// An attempt in a list.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct AttemptRow {
    /// The event's id.
    pub id: String,
    /// The subscription.
    pub subscription: String,
    /// Its number among those of this event.
    pub attempt: i64,
    /// When it began.
    #[schema(value_type = String, format = DateTime)]
    pub at: Timestamp,
    /// How long it took, in milliseconds.
    pub duration_ms: i64,
    /// The status of the answer, if there was one.
    pub status: Option<i64>,
    /// Why the event was not delivered; null if it was.
    pub error: Option<String>,
}

/// An attempt, whole.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct AttemptDetail {
    /// What a list shows of it.
    #[serde(flatten)]
    pub row: AttemptRow,
    /// The first 4 KiB of the answer, as a text.
    pub answer: Option<String>,
    /// Whether personal data in it is masked; then `reveal=true` asks for it.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub masked: bool,
}

impl Shown for AttemptRow {
    const COLUMNS: &'static [Column<Self>] = &[
        column("At", |row| shown(&row.at), Form::Time),
        column("Subscription", |row| shown(&row.subscription), Form::Text),
        dropped(2, column("Attempt", |row| shown(&row.attempt), Form::Number)),
        column("Status", |row| shown(&row.status), Form::Number),
        dropped(1, column("Milliseconds", |row| shown(&row.duration_ms), Form::Number)),
        column("Error", |row| shown(&row.error), Form::Text),
        column("Event", |row| shown(&row.id), Form::Id),
    ];
}

/// `attempts`
pub static ATTEMPTS: View = View {
    name: "attempts",
    tag: "subscriptions",
    about: "Every attempt to deliver an event to a push subscription",
    row: "attempt",
    rows: "attempts",
    example: "subscription=crm",
    empty: "No attempts: nothing was sent to a push subscription.",
    reading: Reading::new::<AttemptRow>(),
};

const ATTEMPT: &str = "a.event_id, a.attempt, a.at, a.duration_ms, a.status, a.error";

fn attempt(row: &AnyRow, subscription: &str) -> Result<AttemptRow, StoreError> {
    Ok(AttemptRow {
        id: id(row, "event_id")?.to_string(),
        subscription: subscription.to_owned(),
        attempt: row.try_get("attempt")?,
        at: time(row, "at")?,
        duration_ms: row.try_get("duration_ms")?,
        status: row.try_get("status")?,
        error: row.try_get("error")?,
    })
}

/// The subscriptions that a filter is about.
async fn named(
    connection: &mut Connection,
    name: Option<&SubscriptionName>,
) -> Result<Vec<(EventId, String)>, StoreError> {
    let mut conditions = Conditions::default();
    conditions.with("name =", name);
    let text = format!("SELECT id, name FROM subscriptions {}", conditions.clause());
    let rows = fetch(connection, text, conditions.values).await?;
    rows.iter().map(|row| Ok((id(row, "id")?, row.try_get("name")?))).collect()
}

impl view::Row for AttemptRow {
    type Filter = AttemptFilter;

    /// Reads of each subscription as many as the page has, by its index, and merges them. The cursor is event, time and
    /// subscription of the page's last.
    async fn page(
        connection: &mut Connection,
        filter: &AttemptFilter,
        page: &Page,
    ) -> Result<Paged<Self>, StoreError> {
        let after =
            page.cursor.as_deref().map(|text| cursor::read(text, 3).map(str::to_owned).collect::<Vec<_>>());
        let mut found: Vec<Self> = Vec::new();
        for (subscription, name) in named(connection, filter.subscription.as_ref()).await? {
            let mut conditions = Conditions::default();
            conditions.with("a.subscription =", Some(subscription));
            conditions.with_id("a.event_id", filter.id);
            conditions.with("a.at >=", filter.from);
            conditions.with("a.at <", filter.to);
            conditions.with("a.status =", filter.status);
            has_error(&mut conditions, "a.error", filter.error.as_deref());
            if let Some([event, at, last]) = after.as_deref() {
                // Of one event and time, the subscriptions are in the order of their names, too.
                let sign = if name.as_str() < last.as_str() { "<=" } else { "<" };
                let at = conditions.bind(Value::from(at.parse::<i64>().unwrap_or_default()));
                let event = conditions.bind(store::id_bound(event));
                conditions.add(format!("(a.at, a.event_id) {sign} ({at}, {event})"));
            }
            let text = format!(
                "SELECT {ATTEMPT} FROM delivery_attempts a {} ORDER BY a.at DESC, a.event_id DESC LIMIT {}",
                conditions.clause(),
                u64::from(page.limit) + 1
            );
            for row in fetch(connection, text, conditions.values).await? {
                found.push(attempt(&row, &name)?);
            }
        }
        found.sort_by(|a, b| (b.at, &b.id, &b.subscription).cmp(&(a.at, &a.id, &a.subscription)));
        Ok(Paged::cut(found, page, |last| {
            cursor::write(&[last.id.clone(), last.at.as_microsecond().to_string(), last.subscription.clone()])
        }))
    }
}

/// Every attempt of an event, whole, oldest first.
pub async fn show_attempts(
    connection: &mut Connection,
    event: EventId,
) -> Result<Vec<AttemptDetail>, StoreError> {
    let text = format!(
        "SELECT {ATTEMPT}, a.answer, s.name FROM delivery_attempts a JOIN subscriptions s ON s.id = a.subscription \
         WHERE a.event_id = $1 ORDER BY s.name, a.at"
    );
    let rows = fetch(connection, text, [Value::from(event)]).await?;
    let detail = |row: &AnyRow| {
        let name: String = row.try_get("name")?;
        Ok(AttemptDetail { row: attempt(row, &name)?, answer: row.try_get("answer")?, masked: false })
    };
    rows.iter().map(detail).collect()
}

/// Which undelivered events to list: all that is given must fit.
#[derive(Clone, Debug, Default, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub struct UndeliveredFilter {
    /// The subscription.
    #[param(value_type = Option<String>)]
    pub subscription: Option<SubscriptionName>,
    /// The event's id, or its beginning.
    #[param(value_type = Option<String>)]
    pub id: Option<IdPrefix>,
    /// Received at this time or later.
    #[param(value_type = Option<String>, format = DateTime)]
    pub from: Option<Timestamp>,
    /// Received before this time.
    #[param(value_type = Option<String>, format = DateTime)]
    pub to: Option<Timestamp>,
    /// Only events of this topic.
    #[param(value_type = Option<String>)]
    pub topic: Option<Topic>,
    /// Only those whose last attempt was answered with this status.
    pub status: Option<i64>,
    /// Only those with this text in the error of their last attempt.
    pub error: Option<String>,
}

/// An undelivered event in a list.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct UndeliveredRow {
    /// The event's id.
    pub id: String,
    /// The subscription.
    pub subscription: String,
    /// Its topic.
    pub topic: Option<String>,
    /// Its subject.
    pub subject: Option<String>,
    /// Receipt.
    #[schema(value_type = String, format = DateTime)]
    pub received_at: Timestamp,
    /// How often it was sent.
    pub attempts: i64,
    /// The status of the last answer, if there was one.
    pub status: Option<i64>,
    /// Why the last attempt failed.
    pub error: Option<String>,
}

impl Shown for UndeliveredRow {
    const COLUMNS: &'static [Column<Self>] = &[
        column("Received", |row| shown(&row.received_at), Form::Time),
        column("Subscription", |row| shown(&row.subscription), Form::Text),
        dropped(1, column("Topic", |row| shown(&row.topic), Form::Text)),
        dropped(2, column("Attempts", |row| shown(&row.attempts), Form::Number)),
        dropped(3, column("Status", |row| shown(&row.status), Form::Number)),
        column("Error", |row| shown(&row.error), Form::Text),
        column("Event", |row| shown(&row.id), Form::Id),
    ];
}

/// `undelivered`
pub static UNDELIVERED: View = View {
    name: "undelivered",
    tag: "subscriptions",
    about: "Events that a push subscription did not take, and whose attempts are used up",
    row: "undelivered event",
    rows: "undelivered events",
    example: "subscription=crm",
    empty: "No undelivered events: what a push subscription has not taken is still sent, or was discarded.",
    reading: Reading::new::<UndeliveredRow>(),
};

/// A column of the last attempt of row `d`.
pub(crate) fn last_attempt(column: &str) -> String {
    format!(
        "(SELECT a.{column} FROM delivery_attempts a WHERE a.event_id = d.event_id AND a.subscription = d.subscription \
         ORDER BY a.at DESC LIMIT 1)"
    )
}

/// Adds the condition that an error contains a text, in the same case.
pub(crate) fn has_error(conditions: &mut Conditions, error: &str, text: Option<&str>) {
    if let Some(text) = text.filter(|text| !text.is_empty()) {
        // Of the functions that find a text, both databases have this one.
        let text = conditions.bind(Value::from(&text));
        conditions.add(format!("replace({error}, {text}, '') <> {error}"));
    }
}

impl view::Row for UndeliveredRow {
    type Filter = UndeliveredFilter;

    async fn page(
        connection: &mut Connection,
        filter: &UndeliveredFilter,
        page: &Page,
    ) -> Result<Paged<Self>, StoreError> {
        let select = format!(
            "SELECT d.event_id, s.name, o.topic, d.subject, d.received_at, d.attempts, {} AS status, {} AS error FROM deliveries d \
             JOIN subscriptions s ON s.id = d.subscription LEFT JOIN events e ON e.id = d.event_id \
             LEFT JOIN origins o ON o.id = e.origin",
            last_attempt("status"),
            last_attempt("error")
        );
        let mut conditions = Conditions::default();
        conditions.add("d.due_at IS NULL");
        conditions.with("s.name =", filter.subscription.as_ref());
        conditions.with_id("d.event_id", filter.id);
        conditions.with("d.received_at >=", filter.from);
        conditions.with("d.received_at <", filter.to);
        conditions.with("o.topic =", filter.topic.as_ref());
        conditions.with(&format!("{} =", last_attempt("status")), filter.status);
        has_error(&mut conditions, &last_attempt("error"), filter.error.as_deref());
        let read = |row: &AnyRow| {
            Ok::<_, StoreError>(Self {
                id: id(row, "event_id")?.to_string(),
                subscription: row.try_get("name")?,
                topic: row.try_get("topic")?,
                subject: row.try_get("subject")?,
                received_at: time(row, "received_at")?,
                attempts: row.try_get("attempts")?,
                status: row.try_get("status")?,
                error: row.try_get("error")?,
            })
        };
        List::by_id(&select, &["d.event_id", "s.name"]).page(connection, conditions, page, read).await
    }
}

/// Which events to report: all that is given must fit.
#[derive(Clone, Debug, Default, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub struct ReportFilter {
    /// The subscription.
    #[param(value_type = Option<String>)]
    pub subscription: Option<SubscriptionName>,
    /// Received at this time or later.
    #[param(value_type = Option<String>, format = DateTime)]
    pub from: Option<Timestamp>,
    /// Received before this time.
    #[param(value_type = Option<String>, format = DateTime)]
    pub to: Option<Timestamp>,
    /// Only those that were sent, or were not.
    pub sent: Option<bool>,
}

/// An event that was tried to be sent.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ReportRow {
    /// The event's id.
    pub id: String,
    /// The subscription.
    pub subscription: String,
    /// Its topic.
    pub topic: String,
    /// Its subject.
    pub subject: Option<String>,
    /// Receipt.
    #[schema(value_type = String, format = DateTime)]
    pub received_at: Timestamp,
    /// Whether the service took it.
    pub sent: bool,
    /// How often it was sent.
    pub attempts: i64,
    /// The last attempt.
    #[schema(value_type = String, format = DateTime)]
    pub last_at: Timestamp,
}

impl Shown for ReportRow {
    const COLUMNS: &'static [Column<Self>] = &[
        column("Received", |row| shown(&row.received_at), Form::Time),
        column("Subscription", |row| shown(&row.subscription), Form::Text),
        dropped(2, column("Topic", |row| shown(&row.topic), Form::Text)),
        column("Subject", |row| shown(&row.subject), Form::Text),
        column("Sent", |row| shown(&row.sent), Form::Flag),
        dropped(3, column("Attempts", |row| shown(&row.attempts), Form::Number)),
        dropped(1, column("Last attempt", |row| shown(&row.last_at), Form::Time)),
        column("Event", |row| shown(&row.id), Form::Id),
    ];
}

/// `attempts/report`
pub static REPORT: View = View {
    name: "attempts/report",
    tag: "subscriptions",
    about: "Every event of a period that was tried to be sent, and whether it was",
    row: "event",
    rows: "events",
    example: "subscription=crm",
    empty: ATTEMPTS.empty,
    reading: Reading::new::<ReportRow>(),
};

/// Whether an attempt `a` delivered its event.
const IS_SENT: &str = "CASE WHEN a.error IS NULL AND a.status BETWEEN 200 AND 299 THEN 1 ELSE 0 END";

impl view::Row for ReportRow {
    type Filter = ReportFilter;

    async fn page(
        connection: &mut Connection,
        filter: &ReportFilter,
        page: &Page,
    ) -> Result<Paged<Self>, StoreError> {
        let select = format!(
            "SELECT a.event_id, s.name, max(o.topic) AS topic, max(e.subject) AS subject, max(e.received_at) AS received_at, \
             CAST(max({IS_SENT}) AS BIGINT) AS sent, count(*) AS attempts, max(a.at) AS last_at FROM delivery_attempts a \
             JOIN subscriptions s ON s.id = a.subscription JOIN events e ON e.id = a.event_id \
             JOIN origins o ON o.id = e.origin"
        );
        let mut conditions = Conditions::default();
        conditions.with("s.name =", filter.subscription.as_ref());
        // No attempt is before the receipt.
        conditions.with("a.at >=", filter.from);
        conditions.with("e.received_at >=", filter.from);
        conditions.with("e.received_at <", filter.to);
        let group = match filter.sent {
            None => "GROUP BY a.event_id, s.name".to_owned(),
            Some(sent) => format!("GROUP BY a.event_id, s.name HAVING max({IS_SENT}) = {}", i64::from(sent)),
        };
        let list = List { group: &group, ..List::by_id(&select, &["a.event_id", "s.name"]) };
        let read = |row: &AnyRow| {
            Ok::<_, StoreError>(Self {
                id: id(row, "event_id")?.to_string(),
                subscription: row.try_get("name")?,
                topic: row.try_get("topic")?,
                subject: row.try_get("subject")?,
                received_at: time(row, "received_at")?,
                sent: row.try_get::<i64, _>("sent")? == 1,
                attempts: row.try_get("attempts")?,
                last_at: time(row, "last_at")?,
            })
        };
        list.page(connection, conditions, page, read).await
    }
}
