//! The recorders: one for each fixed queue.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use async_trait::async_trait;
use broker::{FixedQueue, QueueName, death};
use consumer::{Bindings, Consumer, Failure, Forward, Recorder, Runtime};
use event::{Event, EventId, Message, SourceName, header};
use serde::Deserialize;
use store::seen::{self, Sighting};
use store::{Tx, id};

use crate::dead::{error_group, group_id};
use crate::events::received_at;
use crate::filed::{Filed, json, text};
use crate::origins::{self, origin};
use crate::predicates::is_later;
use store::many::{Value, insert};

/// Two batches of the runtime's usual size: one is written while the next gathers.
const PREFETCH: u16 = 512;

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

impl Events {
    fn takers(&self, event: &Event) -> Vec<&'static str> {
        self.consumers
            .iter()
            .filter(|bindings| bindings.takes(&event.source.provider, &event.topic))
            .map(|bindings| bindings.consumer)
            .collect()
    }
}

#[async_trait]
impl Recorder for Events {
    async fn record(&self, messages: &[&Message], tx: &mut Tx) -> Result<(), Failure> {
        let events = events(messages)?;
        let sightings: Vec<_> =
            events.iter().filter_map(|(event, message)| Sighting::from_message(event, message)).collect();
        let duplicates = seen::duplicates(tx, &sightings).await?;
        let takers = |event: &Event, message: &Message| match message.text(header::TO_CONSUMER) {
            _ if duplicates.contains_key(&event.id) => Vec::new(),
            Some(name) => vec![name.to_owned()],
            None => self.takers(event).into_iter().map(str::to_owned).collect(),
        };
        let origins = origins::numbers(tx, events.iter().map(|(event, _)| origin(event))).await?;
        let mut rows = Vec::with_capacity(events.len());
        let mut owed = HashMap::with_capacity(events.len());
        for (event, message) in events {
            let takers = takers(&event, message);
            let made = event.id.traceparent();
            rows.push(vec![
                Value::from(event.id),
                Value::from(origins[&origin(&event)]),
                Value::from(event.subject.as_ref().map(ToString::to_string)),
                Value::from(received_at(&event)),
                Value::from(takers.join(" ")),
                Value::from(event.content_type),
                Value::from(event.traceparent.map(|given| if given == made { String::new() } else { given })),
                Value::from(event.replay_of),
                Value::from(i64::from(event.repaired)),
                Value::from(duplicates.get(&event.id).copied()),
                json(&event.headers),
                Value::from(Vec::from(event.data)),
            ]);
            owed.insert(event.id, takers);
        }
        let new = insert(
            tx,
            "events (id, origin, subject, received_at, consumers, content_type, traceparent, replay_of, repaired, \
             duplicate_of, headers, body)",
            "ON CONFLICT (id) DO NOTHING RETURNING id",
            rows,
        )
        .await?;
        // Only what is new is unsettled: a message that comes again long after must not undo the sweep.
        let mut unsettled = Vec::with_capacity(new.len());
        for row in new {
            let id = id(&row, 0)?;
            for taker in owed.remove(&id).unwrap_or_default() {
                unsettled.push(vec![Value::from(id), Value::from(taker)]);
            }
        }
        insert(
            tx,
            "unsettled_events (event_id, consumer)",
            "ON CONFLICT (event_id, consumer) DO NOTHING",
            unsettled,
        )
        .await?;
        Ok(())
    }
}

/// Marks events that nobody is bound to.
pub(crate) struct Unrouted;

#[async_trait]
impl Recorder for Unrouted {
    async fn record(&self, messages: &[&Message], tx: &mut Tx) -> Result<(), Failure> {
        let now = event::now();
        let mut events = events(messages)?;
        // A statement may not update a row twice.
        events.dedup_by_key(|(event, _)| event.id);
        let origins = origins::numbers(tx, events.iter().map(|(event, _)| origin(event))).await?;
        let row = |(event, message): &(Event, &Message)| {
            vec![
                Value::from(event.id),
                Value::from(origins[&origin(event)]),
                Value::from(event.subject.as_ref().map(ToString::to_string)),
                Value::from(received_at(event)),
                Value::from(now),
                Value::from(message.text(header::JOB).map(str::to_owned)),
            ]
        };
        let rows: Vec<_> = events.iter().map(row).collect();
        insert(
            tx,
            "unrouted_events (event_id, origin, subject, received_at, marked_at, marked_in)",
            // One that was sent again and comes back is open again.
            &format!(
                "ON CONFLICT (event_id) DO UPDATE SET marked_in = excluded.marked_in WHERE {}",
                is_later("excluded.marked_in", "unrouted_events.marked_in")
            ),
            rows,
        )
        .await?;
        Ok(())
    }
}

/// Keeps bodies that could not be used.
pub(crate) struct Rejected;

#[async_trait]
impl Recorder for Rejected {
    async fn record(&self, messages: &[&Message], tx: &mut Tx) -> Result<(), Failure> {
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
                Value::from(message.body.to_vec()),
            ]
        };
        let rows: Vec<_> = filed.iter().map(row).collect();
        insert(
            tx,
            "rejected_bodies (id, source, provider, received_at, cause, content_type, size, headers, body)",
            "ON CONFLICT (id) DO NOTHING",
            rows,
        )
        .await?;
        Ok(())
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

#[async_trait]
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

    async fn record(&self, messages: &[&Message], tx: &mut Tx) -> Result<(), Failure> {
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
                Value::from(message.body.to_vec()),
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
        for (_, row) in rows {
            insert(
                tx,
                "dead_letters (event_id, consumer, source, provider, topic, attempts, error, first_failed_at, \
                 failed_at, content_type, headers, error_group, group_id, history, died_in, body)",
                &tail,
                vec![row],
            )
            .await?;
        }
        Ok(())
    }
}

/// Keeps what each ingress says it has answered.
struct Tallies;

/// A tally as an ingress tells it.
#[derive(Deserialize)]
struct Tally {
    ingress: EventId,
    /// The time zone of the days; releases without it counted days of UTC.
    #[serde(default = "utc")]
    zone: String,
    counts: Vec<TallyRow>,
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

#[async_trait]
impl Recorder for Tallies {
    async fn record(&self, messages: &[&Message], tx: &mut Tx) -> Result<(), Failure> {
        let mut rows = BTreeMap::new();
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
        let rows: Vec<_> = rows.iter().map(row).collect();
        insert(
            tx,
            "tally (ingress, source, day, zone, accepted, rejected, reported_at)",
            // Counts only grow: an older message changes nothing. An earlier release of the ledger wrote no zone.
            "ON CONFLICT (ingress, source, day) DO UPDATE SET zone = excluded.zone, accepted = excluded.accepted, \
             rejected = excluded.rejected, reported_at = excluded.reported_at \
             WHERE excluded.accepted + excluded.rejected > tally.accepted + tally.rejected",
            rows,
        )
        .await?;
        Ok(())
    }
}
