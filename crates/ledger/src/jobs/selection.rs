//! The rows that a job processes, and the columns that it needs.

use event::{EventId, Subject, Timestamp};
use serde::de::DeserializeOwned;
use serde_json::Value as Json;
use store::{AnyRow, Conditions, Connection, Row, StoreError, id, id_bound, optional_id};
use utoipa::IntoParams;

use super::{JobError, What};
use crate::events::{Chosen, WITH_ORIGIN};
use crate::origins::Origins;
use crate::predicates::duplicate;
use crate::{
    DeadFilter, EventFilter, EventState, RejectedFilter, UnroutedFilter, dead, events, rejected, unrouted,
};
use store::many::{Value, fetch};
use store::time;

/// A job's filter, by what it is about.
pub(crate) enum Selection {
    Events(EventFilter),
    Dead(DeadFilter),
    Rejected(RejectedFilter),
    Unrouted(UnroutedFilter),
}

/// A recorded event, whole.
#[derive(Clone, Debug)]
pub(crate) struct Recorded {
    pub(crate) event: event::Event,
    /// Our consumers that took it when it was recorded.
    pub(crate) consumers: String,
}

/// A dead letter's message, whole.
#[derive(Clone, Debug)]
pub(crate) struct Letter {
    pub(crate) event_id: EventId,
    pub(crate) consumer: String,
    pub(crate) topic: String,
    pub(crate) content_type: String,
    pub(crate) headers: String,
    pub(crate) body: Vec<u8>,
}

/// A rejected body as it is on record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RejectedBody {
    /// The id that the sender was answered with.
    pub id: EventId,
    /// The configured sender.
    pub source: Option<String>,
    /// Receipt.
    pub received_at: Timestamp,
    /// As the sender declared it.
    pub content_type: String,
    /// Headers and properties of its message, as a JSON object.
    pub headers: String,
    /// Byte for byte.
    pub body: Vec<u8>,
}

/// The mark of an event that no queue is bound to.
#[derive(Clone, Debug)]
pub(crate) struct Marked {
    pub(crate) id: EventId,
    /// The event; a mark may exist before the ledger has recorded its event.
    pub(crate) event: Option<Recorded>,
}

/// The next rows of a job.
pub(crate) enum Rows {
    Events(Vec<Recorded>),
    Marked(Vec<Marked>),
    Letters(Vec<Letter>),
    Rejected(Vec<RejectedBody>),
}

/// The filter's fields are those of the list's parameters.
fn list_filter<F: DeserializeOwned + IntoParams>(json: &Json) -> Result<F, JobError> {
    let known = view::names::<F>();
    filter(json, &known.iter().map(String::as_str).collect::<Vec<_>>())
}

/// A filter of these fields; an error names the field.
pub(super) fn filter<F: DeserializeOwned>(filter: &Json, known: &[&str]) -> Result<F, JobError> {
    let fields = match filter {
        Json::Null => serde_json::Map::new(),
        Json::Object(fields) => fields.clone(),
        _ => return Err(JobError::Unfit("filter: expected an object".to_owned())),
    };
    for (name, value) in &fields {
        if !known.contains(&name.as_str()) {
            let known = known.join(", ");
            return Err(JobError::Unfit(format!("filter: there is no {name:?}; expected one of {known}")));
        }
        if value.as_str().is_some_and(|text| text.contains('\0')) {
            return Err(JobError::Unfit(format!("filter.{name}: a NUL character matches nothing")));
        }
        let alone = serde_json::Map::from_iter([(name.clone(), value.clone())]);
        if let Err(error) = serde_json::from_value::<F>(alone.into()) {
            return Err(JobError::Unfit(format!("filter.{name}: {error}")));
        }
    }
    serde_json::from_value(fields.into()).map_err(|error| JobError::Unfit(format!("filter: {error}")))
}

/// Every column that an event is made of. The `time` of a replay is that of the event it repeats.
const EVENT: &str = "e.id, o.source, o.provider, o.topic, e.subject, e.consumers, \
     coalesce((SELECT r.received_at FROM events r WHERE r.id = e.replay_of), e.received_at) AS received_at, \
     e.content_type, e.traceparent, e.replay_of, e.caused_by, e.repaired, e.headers, e.body";

/// How much of an id is its time: 48 bits of milliseconds (RFC 9562, section 5.7).
const MILLISECOND_BYTES: usize = 6;

impl Selection {
    pub(crate) fn new(what: What, json: &Json) -> Result<Self, JobError> {
        let selection = match what {
            What::Events => Self::Events(list_filter(json)?),
            What::Dead => Self::Dead(list_filter(json)?),
            What::Rejected => Self::Rejected(list_filter(json)?),
            What::Unrouted => Self::Unrouted(list_filter(json)?),
        };
        let id = match &selection {
            Self::Events(filter) => filter.id,
            Self::Dead(filter) => filter.id,
            Self::Rejected(filter) => filter.id,
            Self::Unrouted(filter) => filter.id,
        };
        if id.is_some_and(|id| !id.is_whole()) {
            return Err(JobError::Unfit("filter.id: a job takes a whole id".to_owned()));
        }
        if let Self::Events(EventFilter { state: Some(EventState::Duplicate), id: None, .. }) = &selection {
            let text = "filter.state: a replay leaves duplicates out; replay one by its id";
            return Err(JobError::Unfit(text.to_owned()));
        }
        Ok(selection)
    }

    /// Table, key column and conditions of the rows that were there before a job. Those of its own millisecond are
    /// left out: the ids that it derives for what it sends again lie anywhere in it.
    fn chosen(
        &self,
        (origins, subjects): &(Origins, Vec<Subject>),
        job: EventId,
    ) -> (&'static str, &'static str, &'static str, Conditions) {
        let (from, key, group, mut conditions) = match self {
            Self::Events(filter) => {
                let Chosen { from, id, group, mut conditions } = events::chosen(filter, origins, subjects);
                // Undelivered duplicates stay undelivered, unless selected by id.
                if filter.id.is_none() {
                    conditions.add(format!("NOT {}", duplicate("e")));
                }
                (from, id, group, conditions)
            }
            Self::Dead(filter) => ("dead_letters s", "s.event_id", "", dead::chosen(filter)),
            Self::Rejected(filter) => ("rejected_bodies", "id", "", rejected::chosen(filter)),
            Self::Unrouted(filter) => {
                ("unrouted_events s", "s.event_id", "", unrouted::chosen(filter, origins))
            }
        };
        let millisecond = job.as_bytes()[..MILLISECOND_BYTES].to_vec();
        conditions.with(&format!("{key} <"), Some(millisecond));
        (from, key, group, conditions)
    }

    /// What has to be looked up before: the origins and the subjects that fit.
    async fn looked_up(&self, connection: &mut Connection) -> Result<(Origins, Vec<Subject>), StoreError> {
        Ok(match self {
            Self::Events(filter) => {
                (filter.origin().find(connection).await?, filter.subjects(connection).await?)
            }
            Self::Unrouted(filter) => (filter.origin().find(connection).await?, Vec::new()),
            Self::Dead(_) | Self::Rejected(_) => (Origins::All, Vec::new()),
        })
    }

    /// How many rows fit.
    pub(crate) async fn count(&self, connection: &mut Connection, job: EventId) -> Result<i64, StoreError> {
        let found = self.looked_up(connection).await?;
        let (from, key, group, conditions) = self.chosen(&found, job);
        let clause = conditions.clause();
        let text = format!("SELECT count(*) FROM (SELECT {key} FROM {from} {clause} {group}) AS fitting");
        let rows = fetch(connection, text, conditions.values).await?;
        Ok(rows.first().map(|row| row.try_get(0)).transpose()?.unwrap_or(0))
    }

    /// The next rows after a key, oldest first, and the key of the last.
    pub(crate) async fn next(
        &self,
        connection: &mut Connection,
        job: EventId,
        after: &str,
        limit: usize,
    ) -> Result<Option<(Rows, String)>, StoreError> {
        let found = self.looked_up(connection).await?;
        let (from, key, group, mut conditions) = self.chosen(&found, job);
        if let Self::Dead(_) = self {
            let (id, consumer) = after.split_once(':').unwrap_or((after, ""));
            let (id, consumer) = (conditions.bind(id_bound(id)), conditions.bind(Value::from(consumer)));
            conditions.add(format!("(s.event_id, s.consumer) > ({id}, {consumer})"));
        } else {
            conditions.with(&format!("{key} >"), Some(id_bound(after)));
        }
        let clause = conditions.clause();
        let keys = conditions.union(&format!("SELECT {key} AS key FROM {from}"));
        let limit = conditions.bind(Value::from(i64::try_from(limit).unwrap_or(i64::MAX)));
        let text = match self {
            Self::Events(_) => format!(
                "SELECT {EVENT} FROM {WITH_ORIGIN} AND e.id IN ({keys} {group} ORDER BY key LIMIT {limit}) \
                 ORDER BY e.id"
            ),
            // Every mark is a row, whether its event is recorded or not: else the job would end at the first batch
            // without an event.
            Self::Unrouted(_) => format!(
                "SELECT m.key AS event_id, {EVENT} FROM ({keys} ORDER BY key LIMIT {limit}) AS m \
                 LEFT JOIN events e ON e.id = m.key LEFT JOIN origins o ON o.id = e.origin ORDER BY m.key"
            ),
            Self::Dead(_) => format!(
                "SELECT s.event_id, s.consumer, s.topic, s.content_type, s.headers, s.body FROM {from} {clause} \
                 ORDER BY s.event_id, s.consumer LIMIT {limit}"
            ),
            Self::Rejected(_) => format!(
                "SELECT id, source, received_at, content_type, headers, body FROM {from} {clause} \
                 ORDER BY id LIMIT {limit}"
            ),
        };
        let found = fetch(connection, text, conditions.values).await?;
        let Some(last) = found.last() else { return Ok(None) };
        let last_key = match self {
            Self::Events(_) | Self::Rejected(_) => id(last, "id")?.to_string(),
            Self::Unrouted(_) => id(last, "event_id")?.to_string(),
            Self::Dead(_) => format!("{}:{}", id(last, "event_id")?, last.try_get::<String, _>("consumer")?),
        };
        let rows = match self {
            Self::Events(_) => Rows::Events(found.iter().map(recorded).collect::<Result<_, _>>()?),
            Self::Unrouted(_) => Rows::Marked(found.iter().map(marked).collect::<Result<_, _>>()?),
            Self::Dead(_) => Rows::Letters(found.iter().map(letter).collect::<Result<_, _>>()?),
            Self::Rejected(_) => Rows::Rejected(found.iter().map(rejected_body).collect::<Result<_, _>>()?),
        };
        Ok(Some((rows, last_key)))
    }
}

const AS_GIVEN: &str = "the record holds the ids and names it was given";

/// The events of these ids, as far as they are recorded.
pub(super) async fn recorded_events(
    connection: &mut Connection,
    ids: &[EventId],
) -> Result<Vec<Recorded>, StoreError> {
    if ids.is_empty() {
        return Ok(Vec::new());
    }
    let text = format!("SELECT {EVENT} FROM {WITH_ORIGIN} AND e.id IN ({})", store::sql::list(1, ids.len()));
    fetch(connection, text, ids.iter().copied().map(Value::from)).await?.iter().map(recorded).collect()
}

fn recorded(row: &AnyRow) -> Result<Recorded, StoreError> {
    let text = |column| row.try_get::<String, _>(column);
    let id = id(row, "id")?;
    let source = event::Source::parse(&format!("/{}/{}", text("provider")?, text("source")?));
    let received_at = time(row, "received_at")?;
    let event = event::Event {
        id,
        source: source.expect(AS_GIVEN),
        topic: event::Topic::new(text("topic")?).expect(AS_GIVEN),
        subject: row.try_get::<Option<String>, _>("subject")?.as_deref().map(event::Subject::from_text),
        time: received_at,
        content_type: text("content_type")?,
        data: row.try_get::<Vec<u8>, _>("body")?.into(),
        traceparent: events::traceparent(row, id)?,
        replay_of: optional_id(row, "replay_of")?,
        caused_by: optional_id(row, "caused_by")?,
        repaired: row.try_get::<i64, _>("repaired")? != 0,
        headers: serde_json::from_str(&text("headers")?).unwrap_or_default(),
    };
    Ok(Recorded { event, consumers: text("consumers")? })
}

fn marked(row: &AnyRow) -> Result<Marked, StoreError> {
    let is_recorded = optional_id(row, "id")?.is_some();
    let event = is_recorded.then(|| recorded(row)).transpose()?;
    Ok(Marked { id: id(row, "event_id")?, event })
}

pub(super) fn letter(row: &AnyRow) -> Result<Letter, StoreError> {
    Ok(Letter {
        event_id: id(row, "event_id")?,
        consumer: row.try_get("consumer")?,
        topic: row.try_get("topic")?,
        content_type: row.try_get("content_type")?,
        headers: row.try_get("headers")?,
        body: row.try_get("body")?,
    })
}

fn rejected_body(row: &AnyRow) -> Result<RejectedBody, StoreError> {
    Ok(RejectedBody {
        id: id(row, "id")?,
        source: row.try_get("source")?,
        received_at: time(row, "received_at")?,
        content_type: row.try_get("content_type")?,
        headers: row.try_get("headers")?,
        body: row.try_get("body")?,
    })
}
