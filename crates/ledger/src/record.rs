//! The recorders: one for each fixed queue.

use std::collections::BTreeMap;
use std::sync::Arc;

use async_trait::async_trait;
use broker::{FixedQueue, QueueName, death};
use consumer::{Bindings, Consumer, Failure, Forward, Recorder, Recording, Runtime, takers};
use event::{Event, EventId, Message, SourceName, Timestamp, header};
use serde::Deserialize;
use store::seen::{self, Sighting};
use store::{ById, Tx};

use crate::dead::{error_group, group_id};
use crate::events::received_at;
use crate::filed::{Filed, json, text};
use crate::origins::{self, Origin};
use crate::predicates::is_later;
use crate::proofs::{self, SourceReport};
use store::many::{Value, Values, insert};

/// Two batches of the largest size: one is written while the next gathers.
const PREFETCH: u16 = 1_024;

/// The consumers of the ledger. `consumers` are the bindings of all consumers that handle events, whichever process
/// they run in: they decide at which consumers an event is pending.
pub fn consumers(runtime: Runtime, consumers: &[Bindings]) -> Vec<Consumer> {
    let prefix = runtime.layout.queue("").to_string();
    let recorder = |queue| -> Option<Arc<dyn Recorder>> {
        Some(match queue {
            FixedQueue::Ledger => Arc::new(Events { consumers: consumers.to_vec() }),
            FixedQueue::Unrouted => Arc::new(Unrouted),
            FixedQueue::Rejected => Arc::new(Rejected),
            FixedQueue::Dead => Arc::new(DeadLetters { prefix: prefix.clone() }),
            FixedQueue::Tallies => Arc::new(Tallies),
            FixedQueue::Parked => return None,
        })
    };
    FixedQueue::ALL
        .into_iter()
        .filter_map(|queue| {
            Some(Consumer::recorder(queue.name(), PREFETCH, recorder(queue)?, runtime.clone()))
        })
        .collect()
}

/// The messages with their events, in the order of their ids: two transactions that record the same events then wait for
/// each other in one order only.
fn events<'a>(messages: &[&'a Message]) -> Result<Vec<(Event, &'a Message)>, Failure> {
    let event = |message: &&'a Message| match Event::from_message(message) {
        Ok(event) => Ok((event, *message)),
        Err(malformed) => {
            Err(Failure::Permanent(format!("the message is not an event of malote's: {malformed}")))
        }
    };
    let mut events = messages.iter().map(event).collect::<Result<Vec<_>, _>>()?;
    events.sort_by_key(|(event, _)| event.id);
    Ok(events)
}

fn long(number: usize) -> Value {
    Value::from(i64::try_from(number).unwrap_or(i64::MAX))
}

/// Records accepted events.
pub(crate) struct Events {
    pub(crate) consumers: Vec<Bindings>,
}

/// Events as they are recorded.
pub(crate) const EVENTS: ById<'_> = ById {
    into: "events (origin, consumers, duplicate_of, id, subject, received_at, content_type, traceparent, replay_of, \
           caused_by, repaired, headers, answer, body)",
    table: "events",
    id: "id",
    part: None,
};

/// Events that were read.
struct AcceptedEvents<'a> {
    sightings: Vec<Sighting>,
    origins: Vec<Origin>,
    rows: Vec<Row<'a>>,
}

struct Row<'a> {
    id: EventId,
    /// The place of its origin.
    origin: usize,
    takers: Vec<&'a str>,
    /// The columns that nothing in the database decides.
    rest: Values,
}

impl Recorder for Events {
    fn read<'a>(&'a self, messages: &[&'a Message]) -> Result<Box<dyn Recording + 'a>, Failure> {
        let events = events(messages)?;
        let sightings =
            events.iter().filter_map(|(event, message)| Sighting::from_message(event, message)).collect();
        let (origins, places) = origins::distinct(events.iter().map(|(event, _)| event));
        let row = |((event, message), origin): ((Event, &'a Message), usize)| {
            let made = event.id.traceparent();
            Row {
                id: event.id,
                origin,
                takers: match message.text(header::TO_CONSUMER) {
                    Some(name) => vec![name],
                    None => takers(&self.consumers, &event.source.provider, &event.topic).collect(),
                },
                rest: vec![
                    Value::from(event.id),
                    Value::from(event.subject.as_ref().map(ToString::to_string)),
                    Value::from(received_at(&event)),
                    Value::from(event.content_type),
                    Value::from(
                        event.traceparent.map(|given| if given == made { String::new() } else { given }),
                    ),
                    Value::from(event.replay_of),
                    Value::from(event.caused_by),
                    Value::from(i64::from(event.repaired)),
                    json(&event.headers),
                    message.text(header::ANSWER).map_or(Value::Text(None), text),
                    Value::from(event.data),
                ],
            }
        };
        let rows = events.into_iter().zip(places).map(row).collect();
        Ok(Box::new(AcceptedEvents { sightings, origins, rows }))
    }
}

#[async_trait]
impl Recording for AcceptedEvents<'_> {
    async fn write(self: Box<Self>, tx: &mut Tx) -> Result<(), Failure> {
        let decision = seen::decide(tx, &self.sightings).await?;
        let numbers = origins::numbers(tx, &self.origins).await?;
        let mut rows = Vec::with_capacity(self.rows.len());
        let mut pending = Vec::with_capacity(self.rows.len());
        for Row { id, origin, mut takers, rest } in self.rows {
            let duplicate_of = decision.duplicates.get(&id).copied();
            if duplicate_of.is_some() {
                takers.clear();
            }
            let decided = [numbers[origin].into(), takers.join(" ").into(), duplicate_of.into()];
            rows.push((id, decided.into_iter().chain(rest).collect()));
            pending.push((id, takers));
        }
        let mut new = EVENTS.insert_new(tx, rows).await?;
        // Only what is new is unsettled: a message that comes again long after must not undo the sweep.
        pending.retain(|(id, _)| new.remove(id));
        let unsettled = pending
            .into_iter()
            .flat_map(|(id, takers)| takers.into_iter().map(move |taker| vec![id.into(), taker.into()]))
            .collect();
        insert(
            tx,
            "unsettled_events (event_id, consumer)",
            "ON CONFLICT (event_id, consumer) DO NOTHING",
            unsettled,
        )
        .await?;
        Ok(decision.claim(tx).await?)
    }
}

/// Marks events whose topic no queue is bound to.
pub(crate) struct Unrouted;

/// Unrouted events that were read: each with the place of its origin and its other columns.
struct Marks {
    origins: Vec<Origin>,
    rows: Vec<(usize, Values)>,
}

impl Recorder for Unrouted {
    fn read<'a>(&'a self, messages: &[&'a Message]) -> Result<Box<dyn Recording + 'a>, Failure> {
        let now = event::now();
        let mut events = events(messages)?;
        // A statement may not update a row twice.
        events.dedup_by_key(|(event, _)| event.id);
        let (origins, places) = origins::distinct(events.iter().map(|(event, _)| event));
        let row = |(event, message): &(Event, &Message)| {
            vec![
                Value::from(event.id),
                Value::from(event.subject.as_ref().map(ToString::to_string)),
                Value::from(received_at(event)),
                Value::from(now),
                Value::from(message.text(header::JOB).map(str::to_owned)),
            ]
        };
        let rows = places.into_iter().zip(events.iter().map(row)).collect();
        Ok(Box::new(Marks { origins, rows }))
    }
}

#[async_trait]
impl Recording for Marks {
    async fn write(self: Box<Self>, tx: &mut Tx) -> Result<(), Failure> {
        let numbers = origins::numbers(tx, &self.origins).await?;
        let row = |(origin, rest): (usize, Values)| {
            std::iter::once(Value::from(numbers[origin])).chain(rest).collect()
        };
        insert(
            tx,
            "unrouted_events (origin, event_id, subject, received_at, marked_at, marked_in)",
            // One that was sent again and comes back is open again.
            &format!(
                "ON CONFLICT (event_id) DO UPDATE SET marked_in = excluded.marked_in WHERE {}",
                is_later("excluded.marked_in", "unrouted_events.marked_in")
            ),
            self.rows.into_iter().map(row).collect(),
        )
        .await?;
        Ok(())
    }
}

/// Rows whose columns are all read of the messages.
struct Insert {
    into: &'static str,
    tail: String,
    /// Each with the rows that one insert may have.
    inserts: Vec<Vec<Values>>,
}

#[async_trait]
impl Recording for Insert {
    async fn write(self: Box<Self>, tx: &mut Tx) -> Result<(), Failure> {
        for rows in self.inserts {
            insert(tx, self.into, &self.tail, rows).await?;
        }
        Ok(())
    }
}

/// Keeps bodies that could not be used.
pub(crate) struct Rejected;

impl Recorder for Rejected {
    fn read<'a>(&'a self, messages: &[&'a Message]) -> Result<Box<dyn Recording + 'a>, Failure> {
        let mut filed: Vec<_> =
            messages.iter().map(|message| (Filed::new(message, FixedQueue::Rejected), *message)).collect();
        filed.sort_by_key(|(filed, _)| filed.id);
        let row = |(filed, message): &(Filed<'_>, &Message)| {
            vec![
                Value::from(filed.id),
                filed.source(),
                filed.provider(),
                Value::from(filed.received_at),
                filed.text(header::CAUSE),
                text(&message.content_type),
                long(message.body.len()),
                filed.headers(),
                Value::from(message.body.clone()),
            ]
        };
        Ok(Box::new(Insert {
            into: "rejected_bodies (id, source, provider, received_at, cause, content_type, size, headers, body)",
            tail: "ON CONFLICT (id) DO NOTHING".to_owned(),
            inserts: vec![filed.iter().map(row).collect()],
        }))
    }
}

/// Files what consumers gave up, events or not.
pub(crate) struct DeadLetters {
    /// What every queue's name starts with.
    pub(crate) prefix: String,
}

/// How often the consumer has tried in total: the count of attempts restarts when a letter is sent again, the history
/// continues.
fn tried(message: &Message) -> i64 {
    let history: Vec<serde_json::Value> =
        message.text(header::HISTORY).and_then(|text| serde_json::from_str(text).ok()).unwrap_or_default();
    let last = history.last().and_then(|last| last["attempt"].as_i64());
    last.max(message.long(header::ATTEMPT)).unwrap_or(0)
}

impl DeadLetters {
    /// Which consumer gave up, and why. If the runtime did not, the broker did.
    fn verdict(&self, message: &Message) -> (String, String) {
        let error = message.text(header::ERROR);
        let death_queue = message.text(header::DEATH_QUEUE);
        let consumer = message
            .text(header::CONSUMER)
            .or_else(|| death_queue?.strip_prefix(&self.prefix))
            .unwrap_or("unknown")
            .replace(char::is_whitespace, "_");
        if message.text(header::GIVEN_UP_AT).is_some() {
            return (consumer, error.unwrap_or_default().to_owned());
        }
        let is_alone = message.headers.contains_key(header::ALONE);
        let mut text = match (message.text(header::DEATH_REASON), death_queue) {
            // None of ours rejects: the reader of another service's queue.
            (Some(death::REJECTED), _) => "its consumer rejected it".to_owned(),
            (Some(death::MISSING_QUEUE), Some(queue)) => {
                format!("its queue {queue} did not exist when its wait was over")
            }
            // The broker has not given it up since it was sent back.
            (None, Some(queue)) if is_alone => {
                format!("its queue {queue} did not exist when it was sent back, to be tried alone")
            }
            _ if is_alone => {
                "it came back unsettled more often than the delivery limit of its queue, and again when \
                 it was tried alone: it may crash the process"
                    .to_owned()
            }
            _ => "it came back unsettled more often than the delivery limit of its queue".to_owned(),
        };
        if let Some(error) = error {
            text.push_str("; the attempt before failed: ");
            text.push_str(error);
        }
        (consumer, text)
    }
}

impl Recorder for DeadLetters {
    /// A message beyond the delivery limit is sent back once: a crash counts against everything that the process held,
    /// so it says little about a single message.
    fn forward(&self, message: &Message) -> Option<Forward> {
        let is_known = |name| message.headers.contains_key(name);
        if is_known(header::GIVEN_UP_AT)
            || is_known(header::ALONE)
            || message.text(header::DEATH_REASON) != Some(death::DELIVERY_LIMIT)
        {
            return None;
        }
        let queue = QueueName::new(message.text(header::DEATH_QUEUE)?);
        let mut message = message.clone();
        // Without the reason, so that the next death sets its own; the queue stays, since it names the consumer.
        message.headers.remove(header::DEATH_REASON);
        message.headers.insert(header::ALONE.to_owned(), event::now().to_string().into());
        Some(Forward { queue, message })
    }

    fn read<'a>(&'a self, messages: &[&'a Message]) -> Result<Box<dyn Recording + 'a>, Failure> {
        let now = event::now();
        let mut rows = Vec::new();
        for &message in messages {
            let filed = Filed::new(message, FixedQueue::Dead);
            let (consumer, error) = self.verdict(message);
            let time = |name| message.text(name).and_then(|text| text.parse::<event::Timestamp>().ok());
            let first_failed_at = time(header::FIRST_FAILED_AT).unwrap_or(filed.received_at);
            let failed_at = time(header::GIVEN_UP_AT).unwrap_or(now);
            let row = vec![
                Value::from(filed.id),
                text(&consumer),
                filed.source(),
                filed.provider(),
                text(&message.r#type),
                Value::from(tried(message)),
                text(&error),
                Value::from(first_failed_at),
                Value::from(failed_at),
                text(&message.content_type),
                filed.headers(),
                text(&error_group(&error)),
                text(&group_id(&consumer, &error)),
                text(message.text(header::HISTORY).unwrap_or("[]")),
                Value::from(message.text(header::JOB).map(str::to_owned)),
                Value::from(message.body.clone()),
            ];
            rows.push(((filed.id, consumer), row));
        }
        rows.sort_by(|(one, _), (other, _)| one.cmp(other));
        let is_later = is_later("excluded.died_in", "dead_letters.died_in");
        // A letter that was sent again and died again replaces the first, whatever the clocks say; the same letter
        // changes nothing.
        let tail = format!(
            "ON CONFLICT (event_id, consumer) DO UPDATE SET attempts = excluded.attempts, \
             error = excluded.error, first_failed_at = excluded.first_failed_at, \
             failed_at = excluded.failed_at, headers = excluded.headers, \
             error_group = excluded.error_group, group_id = excluded.group_id, \
             history = excluded.history, discarded_in = NULL, \
             died_in = CASE WHEN {is_later} THEN excluded.died_in ELSE dead_letters.died_in END \
             WHERE excluded.failed_at > dead_letters.failed_at OR {is_later}"
        );
        // One by one: a statement may not update a row twice, and an event may die twice in one batch.
        let inserts = rows.into_iter().map(|(_, row)| vec![row]).collect();
        let into = "dead_letters (event_id, consumer, source, provider, topic, attempts, error, first_failed_at, \
                    failed_at, content_type, headers, error_group, group_id, history, died_in, body)";
        Ok(Box::new(Insert { into, tail, inserts }))
    }
}

/// Keeps what each ingress says it has answered, and what it knows of its sources.
pub(crate) struct Tallies;

/// A tally as an ingress reports it.
#[derive(Deserialize)]
struct Tally {
    ingress: EventId,
    /// The time zone of the days; releases without it counted days of UTC.
    #[serde(default = "utc")]
    zone: String,
    counts: Vec<TallyRow>,
    /// When it was made; releases without it reported no sources.
    at: Option<Timestamp>,
    /// Those of which something has changed.
    #[serde(default)]
    sources: Vec<SourceReport>,
}

fn utc() -> String {
    event::UTC.to_owned()
}

#[derive(Deserialize)]
struct TallyRow {
    source: SourceName,
    day: String,
    accepted: i64,
    rejected: i64,
}

impl Recorder for Tallies {
    fn read<'a>(&'a self, messages: &[&'a Message]) -> Result<Box<dyn Recording + 'a>, Failure> {
        let mut rows = BTreeMap::new();
        let mut sources = Vec::new();
        for message in messages {
            let tally: Tally = serde_json::from_slice(&message.body)
                .map_err(|error| Failure::Permanent(format!("the message is not a tally: {error}")))?;
            for TallyRow { source, day, accepted, rejected } in tally.counts {
                let counts = rows.entry((tally.ingress.to_string(), source.to_string(), day)).or_insert((
                    0,
                    0,
                    String::new(),
                ));
                *counts = (accepted.max(counts.0), rejected.max(counts.1), tally.zone.clone());
            }
            let at = tally.at.unwrap_or_else(event::now);
            sources.extend(tally.sources.into_iter().map(|source| (at, source)));
        }
        let now = event::now();
        let row = |((ingress, source, day), (accepted, rejected, zone)): (
            &(String, String, String),
            &(i64, i64, String),
        )| {
            let (accepted, rejected) = (Value::from(*accepted), Value::from(*rejected));
            vec![
                Value::from(ingress),
                Value::from(source),
                text(day),
                text(zone),
                accepted,
                rejected,
                Value::from(now),
            ]
        };
        // Counts only grow: an older message changes nothing. An earlier release of the ledger wrote no zone.
        let tail = "ON CONFLICT (ingress, source, day) DO UPDATE SET zone = excluded.zone, \
                    accepted = excluded.accepted, rejected = excluded.rejected, reported_at = excluded.reported_at \
                    WHERE excluded.accepted + excluded.rejected > tally.accepted + tally.rejected";
        let counts = Insert {
            into: "tally (ingress, source, day, zone, accepted, rejected, reported_at)",
            tail: tail.to_owned(),
            inserts: vec![rows.iter().map(row).collect()],
        };
        Ok(Box::new(Reports { counts, sources }))
    }
}

/// Tallies that were read.
struct Reports {
    counts: Insert,
    sources: Vec<(Timestamp, SourceReport)>,
}

#[async_trait]
impl Recording for Reports {
    async fn write(self: Box<Self>, tx: &mut Tx) -> Result<(), Failure> {
        Box::new(self.counts).write(tx).await?;
        Ok(proofs::write(tx, self.sources).await?)
    }
}
