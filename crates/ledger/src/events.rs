//! Reading events: a page by filter, one whole, one body.

use std::collections::{BTreeMap, BTreeSet};

use event::{EventId, ProviderName, SourceName, Subject, Timestamp, Topic, header};
use serde::de::Error;
use serde::{Deserialize, Deserializer, Serialize};
use store::{
    AnyRow, Conditions, Connection, IdPrefix, List, Page, Paged, Row, StoreError, id, id_bound, optional_id,
};
use utoipa::{IntoParams, ToSchema};

use crate::origins::{Origins, Wanted};
use crate::predicates::{
    awaited, dead, dead_at, discarded_at, discarded_by_letter, discarded_by_mark, discarded_letter,
    discarded_mark, duplicate, has_effect, open_letter, open_mark, pending, pending_at, routed, unrouted,
};
use crate::state::{EventMark, by_consumer};
use crate::{Body, BodyInJson, ConsumerState, EventState, Receipt};
use store::many::{Value, fetch};
use store::time;

/// Which events to list: all that is given must fit.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub struct EventFilter {
    /// Only this event, or events whose ids begin so.
    #[param(value_type = Option<String>)]
    pub id: Option<IdPrefix>,
    /// Only events of this source.
    #[param(value_type = Option<String>)]
    pub source: Option<SourceName>,
    /// Only events of this provider.
    #[param(value_type = Option<String>)]
    pub provider: Option<ProviderName>,
    /// Only events of this topic.
    #[param(value_type = Option<String>)]
    pub topic: Option<Topic>,
    /// Only events in this state.
    pub state: Option<EventState>,
    /// Only events about this subject, such as order/0000593098, or 0000593098 of any entity.
    #[param(value_type = Option<String>)]
    pub subject: Option<Subject>,
    /// Only events that their sender gave this id, as a receipt has it, among the newest 100,000 events.
    pub sender_id: Option<String>,
    /// Only domain events that this event caused.
    #[param(value_type = Option<String>)]
    pub caused_by: Option<EventId>,
    /// Only events received at this time or later.
    #[serde(default, deserialize_with = "rfc3339")]
    #[param(value_type = Option<String>, format = DateTime)]
    pub from: Option<Timestamp>,
    /// Only events received before this time.
    #[serde(default, deserialize_with = "rfc3339")]
    #[param(value_type = Option<String>, format = DateTime)]
    pub to: Option<Timestamp>,
}

fn rfc3339<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Timestamp>, D::Error> {
    let text = String::deserialize(deserializer)?;
    let time = text.parse().map_err(|_| {
        D::Error::custom(format!("expected an RFC 3339 time such as 2026-11-22T12:00:00Z, got {text:?}"))
    })?;
    Ok(Some(time))
}

/// An event in a list.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct EventRow {
    /// The event's id.
    pub id: String,
    /// The configured sender.
    pub source: String,
    /// The kind of sender.
    pub provider: String,
    /// The provider's name for what happened.
    pub topic: String,
    /// What the event is about, such as `order/0000593098`.
    pub subject: Option<String>,
    /// Receipt; for a replay, its own.
    #[schema(value_type = String, format = DateTime)]
    pub received_at: Timestamp,
    /// Its overall outcome.
    pub state: EventState,
    /// Its outcome at each consumer.
    pub consumers: BTreeMap<String, ConsumerState>,
    /// The event that its sender had sent before, which this one repeats.
    pub duplicate_of: Option<String>,
}

/// An event, whole.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[schema(as = Event)]
pub struct RecordedEvent {
    /// What a list shows of it.
    #[serde(flatten)]
    pub row: EventRow,
    /// Its outcome at each consumer, in detail.
    pub outcomes: Vec<Outcome>,
    /// When it was found that no queue is bound to its topic.
    #[schema(value_type = Option<String>, format = DateTime)]
    pub unrouted_at: Option<Timestamp>,
    /// The event that this one repeats.
    pub replay_of: Option<String>,
    /// The event whose dead letter was closed for this one, which has another body.
    #[serde(default)]
    pub replaces: Option<String>,
    /// Of a domain event, the event whose effect it announces.
    pub caused_by: Option<String>,
    /// The domain events that this one caused, the oldest first: at most 100. The list has all, by `caused_by`.
    pub caused: Vec<Caused>,
    /// What its sender was answered; missing if nobody posted it. Of a rejected body that was sent again, the answer to that.
    #[serde(default)]
    pub receipt: Option<Receipt>,
    /// W3C Trace Context.
    pub traceparent: Option<String>,
    /// Whether the body is not strict JSON and was read leniently.
    pub repaired: bool,
    /// Headers of the request that were kept; never a credential.
    #[schema(value_type = Object)]
    pub headers: serde_json::Value,
    /// Content type of the body, as the sender declared it.
    pub content_type: String,
    /// Length of the body in bytes.
    pub size: i64,
    /// The body as received.
    #[serde(flatten)]
    pub body: BodyInJson,
}

/// A domain event, as the event that caused it shows it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Caused {
    /// The event's id.
    pub id: String,
    /// Its type.
    pub topic: String,
    /// What it is about.
    pub subject: Option<String>,
}

/// The outcome of an event at one consumer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[schema(as = ConsumerOutcome)]
pub struct Outcome {
    /// The consumer.
    pub consumer: String,
    /// The outcome there.
    pub state: ConsumerState,
    /// When it had its effect.
    #[schema(value_type = Option<String>, format = DateTime)]
    pub handled_at: Option<Timestamp>,
    /// What the consumer could not read of the event and did not need: paths and reasons, never values. And when the record
    /// received the event from this consumer, since it was missing there.
    pub note: Option<String>,
    /// How often the consumer had tried when it gave up, including attempts before it was sent again.
    pub attempts: Option<i64>,
    /// Why it gave up.
    pub error: Option<String>,
    /// When its first attempt failed.
    #[schema(value_type = Option<String>, format = DateTime)]
    pub first_failed_at: Option<Timestamp>,
    /// When the dead letter was filed.
    #[schema(value_type = Option<String>, format = DateTime)]
    pub failed_at: Option<Timestamp>,
    /// The event that was sent with another body in place of the dead letter.
    #[serde(default)]
    pub replaced_by: Option<String>,
}

/// Everything that a row shows. The consumers' states are read in the statement that chose the event: both see the
/// same moment, so a filter by state agrees with the state shown.
fn columns() -> String {
    let letters = |fits: String| {
        format!("(SELECT string_agg(d.consumer, ' ') FROM dead_letters d WHERE d.event_id = e.id AND {fits})")
    };
    let marked_at = |fits: String| {
        format!("(SELECT max(u.marked_at) FROM unrouted_events u WHERE u.event_id = e.id AND {fits})")
    };
    format!(
        "e.id, o.source, o.provider, o.topic, e.subject, e.received_at, e.consumers, e.duplicate_of, \
         {} AS dead, {} AS discarded, {} AS resent, \
         (SELECT string_agg(i.consumer, ' ') FROM claims i WHERE i.event_id = e.id AND {}) AS handled, \
         {} AS unrouted_at, {} AS discarded_mark_at",
        letters(open_letter("d")),
        letters(discarded_letter("d")),
        letters(awaited("d")),
        has_effect("i"),
        marked_at(open_mark("u")),
        marked_at(discarded_mark("u")),
    )
}

impl view::Row for EventRow {
    type Filter = EventFilter;

    /// The cursor is the id of the page's last event.
    async fn page(
        connection: &mut Connection,
        filter: &EventFilter,
        page: &Page,
    ) -> Result<Paged<Self>, StoreError> {
        let origins = filter.origin().find(connection).await?;
        let subjects = filter.subjects(connection).await?;
        let (text, values) = statement(filter, &origins, &subjects, page);
        let rows = fetch(connection, text, values).await?;
        List::by_id("", &["e.id"]).cut(&rows, page, row)
    }
}

impl EventFilter {
    pub(crate) fn origin(&self) -> Wanted<'_> {
        let Self { source, provider, topic, .. } = self;
        Wanted { source: source.as_ref(), provider: provider.as_ref(), topic: topic.as_ref() }
    }

    /// The subjects that it asks for. One without an entity, such as the number of an order, is looked for under each entity
    /// that the newest events of the origins are about.
    pub(crate) async fn subjects(&self, connection: &mut Connection) -> Result<Vec<Subject>, StoreError> {
        let Some(subject) = &self.subject else { return Ok(Vec::new()) };
        let mut subjects = vec![subject.clone()];
        if subject.as_str().contains('/') {
            return Ok(subjects);
        }
        let text = "SELECT (SELECT e.subject FROM events e WHERE e.origin = o.id ORDER BY e.id DESC LIMIT 1) AS subject \
                    FROM origins o";
        let mut entities = BTreeSet::new();
        for row in fetch(connection, text.to_owned(), []).await? {
            let newest: Option<String> = row.try_get("subject")?;
            entities.extend(newest.as_deref().and_then(|text| Some(text.split_once('/')?.0.to_owned())));
        }
        subjects.extend(entities.iter().map(|entity| Subject::new(entity, subject.as_str())));
        Ok(subjects)
    }
}

/// Among how many of the newest events an id of a sender is looked for: no index has these ids, which would slow down every
/// event.
const SENDER_ID_REACH: u32 = 100_000;

/// Which events fit a filter: where they are found, under which id, and on which conditions.
pub(crate) struct Chosen {
    pub(crate) from: &'static str,
    pub(crate) id: &'static str,
    pub(crate) group: &'static str,
    pub(crate) conditions: Conditions,
}

/// Chooses the table where the fewest rows fit, in the order of the ids: the small one of the state asked for where there
/// is one. SQLite takes the left side of a `CROSS JOIN` first.
pub(crate) fn chosen(filter: &EventFilter, origins: &Origins, subjects: &[Subject]) -> Chosen {
    let mut conditions = Conditions::default();
    let (from, id, group) = match filter.state {
        None
        | Some(EventState::Handled | EventState::Routed | EventState::Discarded | EventState::Duplicate) => {
            ("events e", "e.id", "")
        }
        Some(EventState::Unrouted) => ("unrouted_events s CROSS JOIN events e", "s.event_id", ""),
        Some(EventState::Dead) => ("dead_letters s CROSS JOIN events e", "s.event_id", "GROUP BY s.event_id"),
        Some(EventState::Pending) => {
            ("unsettled_events s CROSS JOIN events e", "s.event_id", "GROUP BY s.event_id")
        }
    };
    let not = |predicate: String| format!("NOT {predicate}");
    let joined = || "e.id = s.event_id".to_owned();
    let texts: Vec<String> = match filter.state {
        None => vec![],
        Some(EventState::Duplicate) => vec![duplicate("e")],
        Some(EventState::Unrouted) => vec![joined(), open_mark("s")],
        Some(EventState::Dead) => vec![joined(), dead_at("s"), not(unrouted("e"))],
        // A dead letter takes the event out of this list altogether.
        Some(EventState::Pending) => vec![joined(), pending_at("s"), not(dead("e")), not(unrouted("e"))],
        Some(EventState::Discarded) => {
            let discarded = format!(
                "e.id IN (SELECT d.event_id FROM dead_letters d WHERE {} \
                 UNION SELECT u.event_id FROM unrouted_events u WHERE {})",
                discarded_at("d"),
                discarded_mark("u")
            );
            vec![discarded, not(dead("e")), not(unrouted("e")), not(pending("e"))]
        }
        Some(EventState::Handled) => {
            let others = [dead, unrouted, discarded_by_mark, discarded_by_letter, pending, routed];
            others.map(|other| not(other("e"))).into()
        }
        Some(EventState::Routed) => {
            let others = [unrouted, discarded_by_mark, discarded_by_letter];
            [routed("e")].into_iter().chain(others.map(|other| not(other("e")))).collect()
        }
    };
    for text in texts {
        conditions.add(text);
    }
    if !matches!(filter.state, None | Some(EventState::Duplicate)) {
        conditions.add(not(duplicate("e")));
    }
    conditions.with_id(id, filter.id);
    // Few events have one id, one subject or one cause, and each has an index of its own.
    let has_own_index = filter.id.is_some()
        || filter.subject.is_some()
        || filter.caused_by.is_some()
        || filter.sender_id.is_some();
    let is_read_by_origin = id == "e.id" && !has_own_index;
    filter.origin().add(&mut conditions, "e.origin", origins, is_read_by_origin);
    match subjects {
        [] => {}
        [one] => conditions.with("e.subject =", Some(one)),
        several => {
            let list: Vec<_> = several.iter().map(|subject| conditions.bind(Value::from(subject))).collect();
            conditions.add(format!("e.subject IN ({})", list.join(", ")));
        }
    }
    conditions.with("e.caused_by =", filter.caused_by);
    if let Some(sender_id) = &filter.sender_id {
        let escaped = sender_id.replace('\\', r"\\").replace('%', r"\%").replace('_', r"\_");
        // Status, address and id, with a space between.
        let answer = conditions.bind(Value::from(format!("___ % {escaped}")));
        conditions.add(format!(
            "{id} IN (SELECT n.id FROM (SELECT a.id, a.answer FROM events a ORDER BY a.id DESC LIMIT {SENDER_ID_REACH}) n \
             WHERE n.answer LIKE {answer} ESCAPE '\\')"
        ));
    }
    conditions.with("e.received_at >=", filter.from);
    conditions.with("e.received_at <", filter.to);
    let bound = |time: Timestamp, slack| id_bound(&id_at(time, slack));
    conditions.with(&format!("{id} >="), filter.from.map(|time| bound(time, -CLOCK_SLACK_SECONDS)));
    conditions.with(&format!("{id} <"), filter.to.map(|time| bound(time, CLOCK_SLACK_SECONDS)));
    Chosen { from, id, group, conditions }
}

/// The statement of a page.
pub(crate) fn statement(
    filter: &EventFilter,
    origins: &Origins,
    subjects: &[Subject],
    page: &Page,
) -> (String, Vec<Value>) {
    let (ids, values) = ids(filter, origins, subjects, page);
    (format!("SELECT {} FROM {WITH_ORIGIN} AND e.id IN ({ids}) ORDER BY e.id DESC", columns()), values)
}

/// The statement of the ids of a page, the newest first.
pub(crate) fn ids(
    filter: &EventFilter,
    origins: &Origins,
    subjects: &[Subject],
    page: &Page,
) -> (String, Vec<Value>) {
    let Chosen { from, id, group, conditions } = chosen(filter, origins, subjects);
    let (select, key) = (format!("SELECT {id} FROM {from}"), [id]);
    List { group, ..List::by_id(&select, &key) }.statement(conditions, page)
}

/// Events with their origins; SQLite takes the left side of a `CROSS JOIN` first.
pub(crate) const WITH_ORIGIN: &str = "events e CROSS JOIN origins o WHERE o.id = e.origin";

/// How far the clock in an id may be from the time of receipt: ids keep growing when the clock is set back.
pub(crate) const CLOCK_SLACK_SECONDS: i64 = 3_600;

/// What the id of an event received at a time is at least: the first 48 bits of a UUIDv7 are milliseconds since 1970
/// (RFC 9562, section 5.7). Lets a period be found by id.
pub(crate) fn id_at(time: Timestamp, slack_seconds: i64) -> String {
    let milliseconds = (time.as_millisecond() + slack_seconds * 1_000).clamp(0, (1 << 48) - 1);
    format!("{:08x}-{:04x}", milliseconds >> 16, milliseconds & 0xffff)
}

/// When an event came in. A replay keeps the `time` of the event it repeats, and came in when it got its id.
pub(crate) fn received_at(event: &event::Event) -> Timestamp {
    let given = || Timestamp::from_millisecond(i64::try_from(event.id.milliseconds()).ok()?).ok();
    event.replay_of.and_then(|_| given()).unwrap_or(event.time)
}

fn row(row: &AnyRow) -> Result<EventRow, StoreError> {
    let names = |column| row.try_get::<Option<String>, _>(column).map(Option::unwrap_or_default);
    let (takes, dead, handled) = (names("consumers")?, names("dead")?, names("handled")?);
    let (discarded, resent) = (names("discarded")?, names("resent")?);
    let consumers = by_consumer(
        takes.split_whitespace().chain(resent.split_whitespace()),
        dead.split_whitespace(),
        discarded.split_whitespace(),
        handled.split_whitespace(),
    );
    let duplicate_of = optional_id(row, "duplicate_of")?.map(|id| id.to_string());
    let unrouted: Option<i64> = row.try_get("unrouted_at")?;
    let mark_discarded: Option<i64> = row.try_get("discarded_mark_at")?;
    let mark = match (&duplicate_of, unrouted, mark_discarded) {
        (Some(_), ..) => EventMark::Duplicate,
        (None, Some(_), _) => EventMark::Unrouted,
        (None, None, Some(_)) => EventMark::Discarded,
        (None, None, None) => EventMark::None,
    };
    Ok(EventRow {
        id: id(row, "id")?.to_string(),
        source: row.try_get("source")?,
        provider: row.try_get("provider")?,
        topic: row.try_get("topic")?,
        subject: row.try_get("subject")?,
        received_at: time(row, "received_at")?,
        state: EventState::combined(mark, &consumers),
        consumers,
        duplicate_of,
    })
}

/// The `traceparent` of an event; the one made from its id is stored as an empty text.
pub(crate) fn traceparent(row: &AnyRow, id: EventId) -> Result<Option<String>, StoreError> {
    let stored: Option<String> = row.try_get("traceparent")?;
    Ok(stored.map(|text| if text.is_empty() { id.traceparent() } else { text }))
}

/// One event, whole; `None` if there is none with this id.
pub async fn show(connection: &mut Connection, id: EventId) -> Result<Option<RecordedEvent>, StoreError> {
    let text = format!(
        "SELECT {}, e.content_type, e.traceparent, e.replay_of, e.caused_by, e.repaired, e.headers, e.answer, \
         (SELECT r.headers FROM rejected_bodies r WHERE r.id = e.id) AS rejected_headers, e.body \
         FROM {WITH_ORIGIN} AND e.id = $1",
        columns()
    );
    let rows = fetch(connection, text, [Value::from(id)]).await?;
    let Some(found) = rows.first() else { return Ok(None) };
    let row = row(found)?;
    // The states come from the first statement; what is added to them here may have happened since.
    let mut outcomes: BTreeMap<String, Outcome> = row
        .consumers
        .iter()
        .map(|(consumer, state)| {
            let outcome = Outcome {
                consumer: consumer.clone(),
                state: *state,
                handled_at: None,
                note: None,
                attempts: None,
                error: None,
                first_failed_at: None,
                failed_at: None,
                replaced_by: None,
            };
            (consumer.clone(), outcome)
        })
        .collect();
    let text = "SELECT consumer, handled_at, note FROM claims WHERE event_id = $1".to_owned();
    for row in fetch(connection, text, [Value::from(id)]).await? {
        if let Some(outcome) = outcomes.get_mut(&row.try_get::<String, _>("consumer")?)
            && outcome.state == ConsumerState::Handled
        {
            outcome.handled_at = Some(time(&row, "handled_at")?);
            outcome.note = row.try_get("note")?;
        }
    }
    let text = "SELECT consumer, attempts, error, first_failed_at, failed_at, replaced_by FROM dead_letters \
                WHERE event_id = $1"
        .to_owned();
    for row in fetch(connection, text, [Value::from(id)]).await? {
        if let Some(outcome) = outcomes.get_mut(&row.try_get::<String, _>("consumer")?)
            && outcome.state != ConsumerState::Pending
        {
            outcome.attempts = Some(row.try_get("attempts")?);
            outcome.error = Some(row.try_get("error")?);
            outcome.first_failed_at = Some(time(&row, "first_failed_at")?);
            outcome.failed_at = Some(time(&row, "failed_at")?);
            outcome.replaced_by = optional_id(&row, "replaced_by")?.map(|id| id.to_string());
        }
    }
    let unrouted: Option<i64> = found.try_get("unrouted_at")?;
    let body: Vec<u8> = found.try_get("body")?;
    let headers: serde_json::Value = serde_json::from_str(found.try_get("headers")?).unwrap_or_default();
    Ok(Some(RecordedEvent {
        row,
        outcomes: outcomes.into_values().collect(),
        unrouted_at: unrouted.map(|_| time(found, "unrouted_at")).transpose()?,
        replay_of: optional_id(found, "replay_of")?.map(|id| id.to_string()),
        replaces: replaces(connection, id).await?,
        caused_by: optional_id(found, "caused_by")?.map(|id| id.to_string()),
        caused: caused(connection, id).await?,
        receipt: receipt(found, &headers, &body)?,
        traceparent: traceparent(found, id)?,
        repaired: found.try_get::<i64, _>("repaired")? != 0,
        headers,
        content_type: found.try_get("content_type")?,
        size: i64::try_from(body.len()).unwrap_or(i64::MAX),
        body: BodyInJson::from(body),
    }))
}

/// The receipt of an event. One that was rejected first has the answer to that.
fn receipt(row: &AnyRow, headers: &serde_json::Value, body: &[u8]) -> Result<Option<Receipt>, StoreError> {
    let answer: Option<String> = row.try_get("answer")?;
    let rejected: Option<String> = row.try_get("rejected_headers")?;
    let of_rejected = || {
        Some(serde_json::from_str::<serde_json::Value>(&rejected?).ok()?[header::ANSWER].as_str()?.to_owned())
    };
    let webhook_id = headers["webhook-id"].as_str();
    Ok(Receipt::new(answer.or_else(of_rejected).as_deref(), webhook_id, body))
}

/// The event whose dead letter this one was sent in place of.
async fn replaces(connection: &mut Connection, id: EventId) -> Result<Option<String>, StoreError> {
    let text = "SELECT event_id FROM dead_letters WHERE replaced_by = $1 LIMIT 1".to_owned();
    let rows = fetch(connection, text, [Value::from(id)]).await?;
    rows.first().map(|row| Ok(store::id(row, "event_id")?.to_string())).transpose()
}

/// The domain events that an event caused.
async fn caused(connection: &mut Connection, id: EventId) -> Result<Vec<Caused>, StoreError> {
    let text = format!(
        "SELECT e.id, o.topic, e.subject FROM {WITH_ORIGIN} AND e.caused_by = $1 ORDER BY e.id LIMIT 100"
    );
    let caused = |row: &AnyRow| {
        let id = store::id(row, "id")?.to_string();
        Ok(Caused { id, topic: row.try_get("topic")?, subject: row.try_get("subject")? })
    };
    fetch(connection, text, [Value::from(id)]).await?.iter().map(caused).collect()
}

/// The body of an event or of a rejected request, byte for byte.
pub async fn body(connection: &mut Connection, id: EventId) -> Result<Option<Body>, StoreError> {
    let text = "SELECT content_type, body FROM events WHERE id = $1 \
                UNION ALL SELECT content_type, body FROM rejected_bodies WHERE id = $1"
        .to_owned();
    let rows = fetch(connection, text, [Value::from(id)]).await?;
    let body =
        |row: &AnyRow| Ok(Body { content_type: row.try_get("content_type")?, bytes: row.try_get("body")? });
    rows.first().map(body).transpose()
}

/// The provider of an event.
pub async fn provider(connection: &mut Connection, id: EventId) -> Result<Option<String>, StoreError> {
    let text = "SELECT o.provider FROM events e JOIN origins o ON o.id = e.origin WHERE e.id = $1".to_owned();
    let rows = fetch(connection, text, [Value::from(id)]).await?;
    rows.first().map(|row| Ok(row.try_get("provider")?)).transpose()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_lies_between_the_bounds_of_its_time() {
        let id = EventId::generate().to_string();
        let now = event::now();
        assert!(id_at(now, -1) < id && id < id_at(now, 1));
        assert_eq!(id_at(Timestamp::MIN, 0), "00000000-0000");
        assert_eq!(id_at(Timestamp::MAX, 0).len(), 13);
    }

    #[test]
    fn a_replay_is_received_when_it_is_replayed() {
        let mut event = broker::test_support::event("/recuperador/rec-1", "acordo.quitado", "{}");
        event.time = "2020-01-01T00:00:00Z".parse().unwrap();
        assert_eq!(received_at(&event), event.time);
        event.replay_of = Some(EventId::generate());
        assert!(event::now().duration_since(received_at(&event)).as_secs() < 60);
    }
}
